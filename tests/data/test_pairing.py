"""Which files become which volumes, by names alone."""

import json
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seglib.data.pairing import Proposal, propose
from seglib.data.readers.base import SourceFile


def files(*names: str) -> list[SourceFile]:
    return [SourceFile(Path("/nowhere") / name, name) for name in names]


def pairs(proposal: Proposal) -> dict[str, tuple[list[str], list[str]]]:
    return {item.name: ([s.name for s in item.images], [s.name for s in item.labels]) for item in proposal.items}


def noted(proposal: Proposal) -> str:
    return "\n".join(proposal.notes)


def cases(*names: str) -> list[str]:
    return [f"set/imagesTr/{name}.nii.gz" for name in names]


def test_nnunet_files_of_a_case_are_its_channels():
    proposal = propose(
        files(*cases("a_0001", "a_0000", "b_1_0000", "b_1_0001"), "set/labelsTr/a.nii.gz", "set/labelsTr/b_1.nii.gz")
    )
    assert pairs(proposal) == {
        "a": (cases("a_0000", "a_0001"), ["set/labelsTr/a.nii.gz"]),
        "b_1": (cases("b_1_0000", "b_1_0001"), ["set/labelsTr/b_1.nii.gz"]),
    }
    assert {item.files_are for item in proposal.items} == {"channels"}
    assert "nnU-Net" in proposal.convention
    assert (proposal.name, proposal.notes, proposal.unused) == ("set", (), ())


def test_nnunet_leaves_test_images_out_and_says_so():
    proposal = propose(
        files(*cases("a_0000"), "set/imagesTs/t_0000.nii.gz", "set/labelsTr/x.nii.gz", "set/preview.png")
    )
    assert pairs(proposal) == {"a": (cases("a_0000"), [])}
    assert [source.name for source in proposal.unused] == ["set/labelsTr/x.nii.gz"]
    for name in ("set/imagesTs/t_0000.nii.gz", "set/labelsTr/x.nii.gz", "set/preview.png"):
        assert name in noted(proposal)


def test_nnunet_never_pairs_cases_of_other_names():
    proposal = propose(files(*cases("a_0000"), "set/labelsTr/b.nii.gz"))
    assert pairs(proposal) == {"a": (cases("a_0000"), [])}


def test_nnunet_folders_given_apart_are_recognised_too():
    proposal = propose(files("imagesTr/a_0000.nrrd", "imagesTr/a_0001.nrrd"), files("labelsTr/a.nrrd"))
    assert pairs(proposal) == {"a": (["imagesTr/a_0000.nrrd", "imagesTr/a_0001.nrrd"], ["labelsTr/a.nrrd"])}


def test_a_channel_that_is_there_twice_and_one_that_is_missing_are_said():
    proposal = propose(files(*cases("a_0000", "a_0001", "b_0000"), "set/imagesTr/a_0000.nrrd"))
    assert "a second time" in noted(proposal)
    assert "same channels" in noted(proposal)
    assert sum(len(item.images) for item in proposal.items) == 4


def described(tmp_path: Path, said: object) -> Proposal:
    path = tmp_path / "dataset.json"
    path.write_text(said if isinstance(said, str) else json.dumps(said))
    return propose([*files(*cases("a_0000"), "set/labelsTr/a.nii.gz"), SourceFile(path, "set/dataset.json")])


@pytest.mark.parametrize(
    "labels",
    [
        {"background": 0, "axon": 1, "ignore": 3, "soma": 2},
        {"0": "background", "2": "soma", "1": "axon", "3": "ignore"},
    ],
)
def test_dataset_json_of_both_versions_names_classes_and_channels(tmp_path, labels):
    proposal = described(tmp_path, {"labels": labels, "channel_names": {"1": "DAPI", "0": "EM"}})
    assert proposal.class_names == {1: "axon", 2: "soma"}
    assert proposal.ignore == (3,)
    assert proposal.channel_names == ("EM", "DAPI")
    assert [source.name for item in proposal.items for source in item.images] == cases("a_0000")


def test_the_channels_of_version_one_are_called_modality(tmp_path):
    assert described(tmp_path, {"modality": {"0": "CT"}}).channel_names == ("CT",)


def test_regions_are_left_out_and_counted(tmp_path):
    proposal = described(tmp_path, {"labels": {"background": 0, "whole": [1, 2], "core": 2}})
    assert proposal.class_names == {2: "core"}
    assert "1 labels" in noted(proposal)


@pytest.mark.parametrize(
    "said",
    ["", "[]", "{", "[" * 100_000, '{"labels": {"a": 1e400, "b": -1, "c": true, "d": null}, "modality": {"x": {}}}',
     '{"labels": "", "channel_names": {"0": ["x"], "7": "y"}}', '{"labels": {"\\ud800\\u0007": 1}}', "9" * 5000],
)  # fmt: skip
def test_a_strange_dataset_json_is_never_an_error(tmp_path, said):
    proposal = described(tmp_path, said)
    assert len(proposal.items) == 1
    json.dumps([*proposal.class_names.values(), *proposal.channel_names], ensure_ascii=False).encode()


def test_a_dataset_json_of_something_else_is_named_in_a_note():
    proposal = propose(files("a.tif", "dataset.json"))
    assert pairs(proposal) == {"a": (["a.tif"], [])}
    assert "dataset.json" in noted(proposal)


def test_a_tile_list_given_by_itself_is_an_image_whatever_it_is_called():
    assert pairs(propose(files("dataset.json"))) == {"dataset": (["dataset.json"], [])}


@pytest.mark.parametrize(("raw", "masks"), [("TB_raw_data", "TB_masks"), ("raw_data", "masks")])
def test_positions_pair_by_name_within_the_position(raw, masks):
    names = [f"exp/{folder}/Pos{p:03}/img_{i}.tif" for folder in (raw, masks) for p in (2, 10) for i in (1, 2)]
    proposal = propose(files(*names))
    assert [(i.group, i.images[0].name, i.labels[0].name) for i in proposal.items] == [
        (f"Pos{p:03}", f"exp/{raw}/Pos{p:03}/img_{i}.tif", f"exp/{masks}/Pos{p:03}/img_{i}.tif")
        for p in (2, 10)
        for i in (1, 2)
    ]
    assert proposal.separate
    assert proposal.notes == ()


def test_positions_of_several_experiments_are_different_groups():
    names = [f"{x}_{kind}/Pos001/a.tif" for x in ("A", "B") for kind in ("raw_data", "masks")]
    proposal = propose(files(*names))
    assert [(item.group, item.labels[0].name) for item in proposal.items] == [
        ("A/Pos001", "A_masks/Pos001/a.tif"),
        ("B/Pos001", "B_masks/Pos001/a.tif"),
    ]
    assert len({item.name for item in proposal.items}) == 2


def test_positions_never_pair_across_positions():
    proposal = propose(files("raw_data/Pos1/a.tif", "masks/Pos1/a.tif", "raw_data/Pos2/b.tif", "masks/Pos3/b.tif"))
    assert {item.images[0].name: len(item.labels) for item in proposal.items} == {
        "raw_data/Pos1/a.tif": 1,
        "raw_data/Pos2/b.tif": 0,
    }
    assert [source.name for source in proposal.unused] == ["masks/Pos3/b.tif"]


@pytest.mark.parametrize(("image", "label"), [("images", "labels"), ("raw", "Masks"), ("Imgs", "GT")])
def test_folders_of_images_and_labels_are_paired_at_any_depth(image, label):
    names = [f"x/{part}/{kind}/{i}.tif" for part in ("train", "val") for kind in (image, label) for i in (2, 10)]
    proposal = propose(files(*names))
    assert [(item.group, item.images[0].name, item.labels[0].name) for item in proposal.items] == [
        (part, f"x/{part}/{image}/{i}.tif", f"x/{part}/{label}/{i}.tif") for part in ("train", "val") for i in (2, 10)
    ]


def test_one_pair_of_folders_is_no_group_and_other_files_are_left_out():
    proposal = propose(files("d/images/2.tif", "d/images/10.tif", "d/labels/2.tif", "d/labels/10.tif", "d/logo.png"))
    assert [(item.name, item.group) for item in proposal.items] == [("2", ""), ("10", "")]
    assert "d/logo.png" in noted(proposal)
    assert proposal.name == "d"


def test_labels_in_a_folder_beside_or_within_that_of_the_images_are_paired():
    for above in ("d", "images"):
        proposal = propose(files(f"{above}/1.tif", f"{above}/masks/1.tif"))
        assert pairs(proposal) == {"1": ([f"{above}/1.tif"], [f"{above}/masks/1.tif"])}


def test_the_nearest_folder_decides():
    proposal = propose(files("labels project/images/1.tif", "labels project/labels/1.tif"))
    assert pairs(proposal) == {"1": (["labels project/images/1.tif"], ["labels project/labels/1.tif"])}


def test_sub_folders_keep_volumes_apart():
    names = [f"{kind}/vol{v}/{i}.tif" for kind in ("images", "labels") for v in (1, 2) for i in (1, 2, 3)]
    proposal = propose(files(*names, "images/vol1/4.tif", "labels/vol2/4.tif"))
    for item in proposal.items:
        assert all(s.name == item.images[0].name.replace("images", "labels") for s in item.labels)
    assert [source.name for source in proposal.unused] == ["labels/vol2/4.tif"]
    assert {item.group for item in proposal.items} == {"vol1", "vol2"}


@pytest.mark.parametrize(
    ("image", "label"),
    [
        ("cell1.tif", "cell1_mask.tif"),
        ("cell1.tif", "cell1_label.png"),
        ("cell1.tif", "cell1_labels.tif"),
        ("cell1.tif", "cell1-labels.tif"),
        ("cell1.tif", "cell1_seg.nii.gz"),
        ("cell1.nii.gz", "Cell1_GT.nii.gz"),
        ("cell1.png", "cell1_cp_masks.png"),
        ("cell1_img.png", "cell1_masks.png"),
        ("cell1.tif", "mask_cell1.tif"),
        ("raw_1.tif", "seg_1.tif"),
        ("image.tif", "label.tif"),
        ("leaf.tif", "label.tif"),
    ],
)
def test_labels_beside_their_image_are_known_by_a_word_in_their_name(image, label):
    proposal = propose(files(f"f/{image}", f"f/{label}"))
    assert list(pairs(proposal).values()) == [([f"f/{image}"], [f"f/{label}"])]


def test_the_folder_names_an_image_that_is_only_called_image():
    proposal = propose(files("v1/image.tif", "v1/label.tif", "v10/image.tif", "v10/label.tif", "v2/image.tif"))
    assert [(item.name, len(item.labels)) for item in proposal.items] == [("v1", 1), ("v2", 0), ("v10", 1)]


def test_a_word_in_a_name_without_such_an_image_means_nothing():
    assert len(propose(files("a_mask.tif", "b_mask.tif")).items) == 2


def test_the_second_label_file_of_an_image_is_unused():
    proposal = propose(files("a.png", "a_cp_masks.png", "a_seg.npy"))
    assert pairs(proposal) == {"a": (["a.png"], ["a_cp_masks.png"])}
    assert [source.name for source in proposal.unused] == ["a_seg.npy"]


def test_labels_given_apart_are_paired_by_name_before_number_and_order():
    proposal = propose(files("in/a2.tif", "in/b1.tif"), files("out/b1.png", "out/a2_mask.png"))
    assert pairs(proposal) == {"a2": (["in/a2.tif"], ["out/a2_mask.png"]), "b1": (["in/b1.tif"], ["out/b1.png"])}
    assert proposal.notes == ()


def test_labels_of_other_names_are_paired_by_their_last_number():
    proposal = propose(files("x1_s9.tif", "x1_s10.tif"), files("y_10.tif", "y_09.tif"))
    assert pairs(proposal) == {"x1_s9": (["x1_s9.tif"], ["y_09.tif"]), "x1_s10": (["x1_s10.tif"], ["y_10.tif"])}
    assert "numbers in their names" in noted(proposal)


def test_equally_many_of_quite_other_names_are_paired_in_natural_order():
    proposal = propose(files("b.tif", "a.tif"), files("z.tif", "y.tif"))
    assert pairs(proposal) == {"a": (["a.tif"], ["y.tif"]), "b": (["b.tif"], ["z.tif"])}
    assert "order of their names" in noted(proposal)


def test_contradicting_numbers_are_said():
    proposal = propose(files("a1.tif", "a2.tif"), files("b3.tif", "b4.tif"))
    assert "contradict" in noted(proposal)
    assert "a1.tif with b3.tif" in noted(proposal)


def test_where_some_names_match_the_odd_ones_are_not_forced_together():
    proposal = propose(files("a.tif", "b.tif"), files("a.png", "q.png"))
    assert pairs(proposal) == {"a": (["a.tif"], ["a.png"]), "b": (["b.tif"], [])}
    assert [source.name for source in proposal.unused] == ["q.png"]


def test_one_stack_takes_the_sections_of_the_other_side():
    sections = [f"s/{i}.png" for i in (1, 2, 10)]
    proposal = propose(files("stack.tif"), files(*reversed(sections)))
    assert pairs(proposal) == {"stack": (["stack.tif"], sections)}
    proposal = propose(files(*reversed(sections)), files("stack.tif"))
    assert pairs(proposal) == {"stack": (sections, ["stack.tif"])}
    assert proposal.items[0].files_are == "sections"


def test_one_labelled_section_of_many_is_known_by_its_name():
    proposal = propose(files("s1.png", "s2.png", "s3.png"), files("s2_mask.png"))
    assert pairs(proposal)["s2"] == (["s2.png"], ["s2_mask.png"])
    assert len(proposal.items) == 3


def test_without_any_sign_all_files_are_images_in_natural_order():
    proposal = propose(files("10.tif", "9.tif", "x.tif"))
    assert [item.name for item in proposal.items] == ["9", "10", "x"]
    assert (proposal.convention, proposal.name, proposal.separate) == ("", "", False)


def test_folders_of_sections_are_groups():
    proposal = propose(
        files(*[f"d/vol{v}/z{i}.tif" for v in (1, 2) for i in range(3)], "d/notes/a.png", "d/notes/b.png")
    )
    assert {(item.images[0].name.split("/")[1], item.group) for item in proposal.items} == {
        ("vol1", "vol1"),
        ("vol2", "vol2"),
        ("notes", ""),
    }


def test_a_missing_section_is_said_and_regular_steps_are_none():
    assert "section 3 is missing" in noted(propose(files("s1.tif", "s2.tif", "s4.tif", "s5.tif")))
    assert "section 30 is missing" in noted(propose(files("s10.tif", "s20.tif", "s40.tif")))
    assert "sections 3, 6 are missing" in noted(propose(files(*[f"t2_z{i}.tif" for i in (1, 2, 4, 5, 7)])))
    for steps in ([0, 5, 10, 15], [3, 500, 20_000], [1, 2]):
        assert propose(files(*[f"s{i}.tif" for i in steps])).notes == ()


def test_a_number_twice_and_a_name_that_does_not_fit_are_said():
    text = noted(propose(files("s1.tif", "s2.tif", "s2.png", "s3.tif", "s03.tif", "overview.tif", "s4.tif")))
    assert "s2.png and s2.tif" in text
    assert "s3.tif and s03.tif" in text or "s03.tif and s3.tif" in text
    assert "overview.tif" in text


def test_separate_images_have_no_missing_sections():
    names = [f"{folder}/Pos1/{i}.tif" for folder in ("raw_data", "masks") for i in (1, 2, 4, 5)]
    assert propose(files(*names)).notes == ()


def test_names_are_clean_short_and_unique():
    odd = ["a/x\x07y\ud800.tif", "b/" + "n" * 300 + ".tif", "c/" + "n" * 250 + ".tif", "same.tif", "e/same.tif"]
    sources = [*files(*odd), SourceFile(Path("/other"), "same.tif")]
    proposal = propose(sources)
    names = [item.name for item in proposal.items]
    assert len(set(names)) == len(sources)
    assert all(1 <= len(name) <= 200 for name in names)
    "".join([*names, *proposal.notes]).encode()
    assert not any(ord(character) < 32 for name in names for character in name)


def test_a_file_given_twice_counts_once_and_one_of_both_kinds_is_an_image():
    twice = files("a.tif", "a.tif", "b.tif")
    proposal = propose(twice, [*files("b.tif"), *files("a_mask.tif")])
    assert pairs(proposal) == {"a": (["a.tif"], ["a_mask.tif"]), "b": (["b.tif"], [])}
    assert "b.tif" in noted(proposal)


def test_the_members_of_one_file_are_different_images():
    path = Path("/nowhere/all.h5")
    proposal = propose([SourceFile(path, "all.h5", "raw")], [SourceFile(path, "all.h5", "seg")])
    ((image,), (label,)) = proposal.items[0].images, proposal.items[0].labels
    assert (image.member, label.member) == ("raw", "seg")


FOLDERS = [
    *["", "images/", "labels/", "images/labels/", "d/", "d/train/images/", "d/train/masks/"],
    *["d/imagesTr/", "d/labelsTr/", "d/imagesTs/", "X_raw_data/Pos1/", "X_masks/Pos1/", "X_masks/Pos2/"],
]
STEMS = [
    "a",
    "a_mask",
    "a_0000",
    "a_0001",
    "1",
    "2",
    "10",
    "s03",
    "s3",
    "label",
    "image",
    "mask_1",
    "dataset",
    "A",
    "é",
]
NAMES = st.builds("{}{}{}".format, st.sampled_from(FOLDERS), st.sampled_from(STEMS), st.sampled_from([".tif", ".png"]))
ANY = st.lists(st.one_of(NAMES, st.just("d/dataset.json"), st.text(max_size=8)), max_size=9)


@settings(max_examples=400)
@given(ANY, ANY, st.randoms())
def test_every_file_has_one_place_whatever_the_names_and_the_order(images, labels, chance):
    given_images, given_labels = files(*images), files(*labels)
    proposal = propose(given_images, given_labels)
    placed = [source for item in proposal.items for source in (*item.images, *item.labels)] + list(proposal.unused)
    assert len(placed) == len(set(placed))
    everything = set(given_images) | set(given_labels)
    assert set(placed) <= everything
    left = everything - set(placed)
    told = noted(proposal)
    clean = [
        "".join("_" if ord(c) < 32 or 127 <= ord(c) < 160 or 0xD800 <= ord(c) < 0xE000 else c for c in s.name)
        for s in left
    ]
    assert all(name in told or " more." in told for name in clean)
    assert all(item.images for item in proposal.items)
    assert len({item.name for item in proposal.items}) == len(proposal.items)
    random.Random(chance.random()).shuffle(given_images)
    random.Random(chance.random()).shuffle(given_labels)
    assert propose(given_images, given_labels) == proposal
