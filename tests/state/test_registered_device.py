from __future__ import annotations

import pytest

from gateway.errors import RegistryError
from gateway.state.registered_device import check_device, check_profile


@pytest.mark.parametrize("device", ["", "a b", "a/b", "a" * 129, "ü", "a\n", "a%20"])
def test_an_impossible_device_id_is_refused(device: str) -> None:
    with pytest.raises(RegistryError, match="a device id is 1 to 128 of"):
        check_device(device, {})


def test_what_is_possible_is_accepted() -> None:
    check_device("kiln-1", {"site": "Nörd, Ost", "hall": "2"})


@pytest.mark.parametrize(
    ("tags", "words"),
    [
        ({"time": "x"}, "belong to the database"),
        ({"_x": "x"}, "belong to the database"),
        ({"device": "x"}, "written by the gateway"),
        ({"": "x"}, "1 to 64 characters"),
        ({" site": "x"}, "begin or end with a space"),
        ({"site\u00a0": "x"}, "begin or end with a space"),
        ({"site": ""}, "1 to 256 characters"),
        ({"site": "x" * 257}, "1 to 256 characters"),
        ({"site": "a\nb"}, "no control characters"),
        ({"site": "a\\"}, "no backslash"),
        ({"site": "\udcff"}, "no control characters"),
    ],
)
def test_an_impossible_tag_is_refused(tags: dict[str, str], words: str) -> None:
    with pytest.raises(RegistryError, match=words):
        check_device("kiln-1", tags)


def test_only_a_profile_of_the_configuration_is_accepted() -> None:
    check_profile("kiln", ("default", "kiln"))
    with pytest.raises(RegistryError, match="no profile oven; it has default, kiln"):
        check_profile("oven", ("default", "kiln"))
