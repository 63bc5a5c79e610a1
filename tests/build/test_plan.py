"""How wheels become layers, before any byte is fetched."""

from dockyard.build.plan import GROUPS, MAX_LAYERS, SOLO_SIZE, cuda_environment, plan_wheel_layers
from dockyard.wheels.lock import LockedWheel


def wheel(name: str, size: int | None, version: str = "1.0") -> LockedWheel:
    return LockedWheel(
        name=name,
        version=version,
        filename=f"{name.replace('-', '_')}-{version}-py3-none-any.whl",
        sha256="0" * 64,
        size=size,
        url=f"https://files.example/{name}.whl",
        requested=True,
        direct_url=None,
    )


def test_large_wheels_stand_alone_largest_first_and_small_ones_together() -> None:
    wheels = [
        wheel("tiny", 10_000),
        wheel("numpy", 20_000_000),
        wheel("torch", 600_000_000),
        wheel("scipy", 20_000_000),
        wheel("a-small-one", 4_999_999),
    ]
    layers = plan_wheel_layers(wheels, other_layers=3)
    assert [layer.title for layer in layers] == [
        "torch 1.0",
        "numpy 1.0",
        "scipy 1.0",
        "2 small wheels",
    ]
    assert [item.name for item in layers[-1].wheels] == ["a-small-one", "tiny"]
    assert layers[-1].size == 5_009_999


def test_many_small_wheels_beside_a_large_one_are_divided_by_name() -> None:
    wheels = [wheel(f"small{number}", 400_000) for number in range(20)]
    assert len(plan_wheel_layers(wheels, other_layers=3)) == 1
    layers = plan_wheel_layers([*wheels, wheel("torch", 600_000_000)], other_layers=3)
    assert layers[0].title == "torch 1.0"
    assert 3 <= len(layers) <= 1 + GROUPS
    assert sorted(item.name for layer in layers[1:] for item in layer.wheels) == sorted(
        item.name for item in wheels
    )
    # One that is new, or another version, changes its own layer alone.
    more = plan_wheel_layers(
        [*wheels, wheel("torch", 600_000_000), wheel("new", 1)], other_layers=3
    )
    assert len({layer.created_by for layer in more} - {layer.created_by for layer in layers}) == 1


def test_the_order_of_the_lock_makes_no_difference() -> None:
    wheels = [wheel(f"w{number}", SOLO_SIZE + number % 3) for number in range(20)]
    assert plan_wheel_layers(wheels, other_layers=3) == plan_wheel_layers(
        wheels[::-1], other_layers=3
    )


def test_past_the_budget_the_smallest_solo_wheels_join_the_small_ones() -> None:
    wheels = [wheel(f"w{number:03}", SOLO_SIZE + number) for number in range(100)]
    layers = plan_wheel_layers(wheels, other_layers=5)
    assert len(layers) + 5 == MAX_LAYERS
    merged = layers[-1].wheels
    assert {item.name for item in merged} == {f"w{number:03}" for number in range(46)}
    assert "60 layers" in layers[-1].why


def test_a_wheel_of_unknown_size_counts_as_small() -> None:
    (layer,) = plan_wheel_layers([wheel("unknown", None)], other_layers=3)
    assert layer.kind == "wheels"
    assert layer.title == "unknown==1.0"


def test_no_wheels_no_layers() -> None:
    assert plan_wheel_layers([], other_layers=3) == ()


def test_the_cuda_version_is_read_from_the_runtime_wheel() -> None:
    assert cuda_environment([wheel("numpy", 1)]) == {}
    env = cuda_environment([wheel("nvidia-cuda-runtime-cu12", 1, "12.8.90"), wheel("torch", 1)])
    assert env == {
        "NVIDIA_VISIBLE_DEVICES": "all",
        "NVIDIA_DRIVER_CAPABILITIES": "compute,utility",
        "NVIDIA_REQUIRE_CUDA": "cuda>=12.8",
    }
    assert "LD_LIBRARY_PATH" not in env
    newer = cuda_environment([wheel("nvidia-cuda-runtime", 1, "13.0.96")])
    assert newer["NVIDIA_REQUIRE_CUDA"] == "cuda>=13.0"
