"""What every engine must do alike: one suite, run against Docker and the engine in memory."""

from __future__ import annotations

import io
import os
import socket
import tarfile
import time
from dataclasses import replace

import pytest
from small_image import diff_id, in_chunks, make_archive, make_layer

from dockyard.engine.api import Port, StartError
from dockyard.engine.ready import launch, stop, wait_ready
from dockyard.engine.spec import Gpus
from dockyard.errors import EngineError
from dockyard.oci.chain import shared_depth


def text_of(chunks, stream=None):
    data = b"".join(c.data for c in chunks if stream in (None, c.stream))
    return data.decode()


def wait_for_output(running, text):
    deadline = time.monotonic() + 20
    while text not in running.output.tail():
        assert time.monotonic() < deadline, running.output.tail()
        time.sleep(0.02)


# Images


def test_a_loaded_image_has_its_name_layers_and_config(ground):
    image = ground.engine.image(ground.image)
    assert ground.image in image.references
    assert image.layers == tuple(diff_id(layer) for layer in ground.layers)
    assert [port.key for port in image.exposed_ports] == ["8080/tcp"]
    assert image.config["Cmd"] == ["/bin/hello"]
    assert image.architecture == ground.engine.info.architecture


def test_images_lists_what_was_loaded_and_an_unknown_name_is_none(ground):
    found = {name for image in ground.engine.images() for name in image.references}
    assert {ground.image, ground.checked, ground.sick} <= found
    assert ground.engine.image("dockyard-test-nothing:here") is None


def needs_partial_loads(ground):
    if not ground.engine.info.partial_loads:
        assert ground.engine.known_layers() == frozenset()
        pytest.skip(f"{ground.engine.info} takes only whole archives")


def test_an_archive_may_leave_out_layers_that_the_engine_has(ground):
    needs_partial_loads(ground)
    app = make_layer({"app/main.py": os.urandom(64)})
    layers = [*ground.layers, app]
    chain = tuple(diff_id(layer) for layer in layers)
    known = ground.engine.known_layers()
    assert shared_depth(chain, known) == 2
    archive = make_archive(
        f"{ground.image}-app", layers, ground.config(), left_out=shared_depth(chain, known)
    )
    (name,) = ground.engine.load(in_chunks(archive))
    assert ground.engine.image(name).layers == chain
    assert chain in ground.engine.known_layers()


def test_a_known_layer_on_another_chain_isnt_known(ground):
    swapped = ground.layers[::-1]
    assert shared_depth([diff_id(x) for x in swapped], ground.engine.known_layers()) == 0
    archive = make_archive("dockyard-test:swapped", swapped, ground.config(), left_out=1)
    with pytest.raises(EngineError, match="can't load the image"):
        ground.engine.load(in_chunks(archive))


BAD_ARCHIVES = {
    "nothing at all": lambda good: b"",
    "no tar": lambda good: os.urandom(20_000),
    "cut in the middle": lambda good: good[: len(good) // 2],
    "a tar without a manifest": lambda good: make_layer({"bin/x": b"x"}),
}


@pytest.mark.parametrize("damage", BAD_ARCHIVES.values(), ids=BAD_ARCHIVES.keys())
def test_refuses_an_archive_that_is(ground, damage):
    layer = make_layer({"data": os.urandom(300_000)})
    good = make_archive("dockyard-test:bad", [layer], ground.config())
    with pytest.raises(EngineError, match=r"can't load the image|loaded nothing"):
        ground.engine.load(in_chunks(damage(good)))


def test_refuses_a_layer_with_other_bytes_than_the_config_says(ground):
    layer = make_layer({"data": os.urandom(1000)})
    archive = make_archive("dockyard-test:other", [layer], ground.config())
    changed = archive.replace(layer, make_layer({"data": os.urandom(1000)}))
    with pytest.raises(EngineError, match="can't load the image"):
        ground.engine.load(in_chunks(changed))


def test_the_error_of_an_archives_maker_is_raised_as_it_is(ground):
    archive = make_archive("dockyard-test:half", ground.layers, ground.config())

    def breaks_off():
        yield from in_chunks(archive[: len(archive) // 2], 1000)
        raise OSError(28, "No space left on device")

    with pytest.raises(OSError, match="No space left"):
        ground.engine.load(breaks_off())
    assert ground.engine.image("dockyard-test:half") is None


def test_an_image_lives_until_its_last_name_is_removed(ground):
    archive = make_archive(f"{ground.image}-tagged", ground.layers, ground.config(Env=["TAGGED=1"]))
    (name,) = ground.engine.load(in_chunks(archive))
    other = name + "-too"
    ground.engine.tag(name, other)
    ground.engine.remove_image(name)
    assert ground.engine.image(name) is None
    assert other in ground.engine.image(other).references
    ground.engine.remove_image(other)
    assert ground.engine.image(other) is None
    ground.engine.remove_image(other)


# Containers


def test_output_comes_separated_and_the_exit_code_is_the_programs(ground, launched):
    running = launched("hello")
    assert ground.engine.wait(running.id) == 0
    assert text_of(ground.engine.logs(running.id), "stdout") == "to stdout\n"
    assert text_of(ground.engine.logs(running.id), "stderr") == "to stderr\n"
    running.output.finish()
    assert sorted(running.output.tail()) == ["to stderr", "to stdout"]


def test_output_is_passed_on_from_the_first_byte(ground):
    seen = []
    running = launch(ground.engine, ground.spec("chatty"), write=seen.append)
    ground.engine.wait(running.id)
    running.output.finish(20)
    ground.engine.remove(running.id)
    assert text_of(seen) == "".join(f"line {number}\n" for number in range(3000))


def test_logs_give_the_last_lines(ground, launched):
    running = launched("chatty")
    ground.engine.wait(running.id)
    assert text_of(ground.engine.logs(running.id, tail=2)) == "line 2998\nline 2999\n"


def test_followed_logs_end_with_the_container(ground, launched):
    running = launched("polite")
    chunks = ground.engine.logs(running.id, follow=True)
    assert next(chunks).data == b"waiting\n"
    ground.engine.kill(running.id, "SIGTERM")
    assert text_of(chunks) == "bye\n"


def test_environment_and_arguments_reach_the_program(ground, launched):
    running = launched(
        image=ground.image,
        environment={"GREETING": "good day = yes"},
        entrypoint=("/bin/show", "all"),
    )
    ground.engine.wait(running.id)
    assert text_of(ground.engine.logs(running.id)) == "good day = yes all\n"


def test_a_stop_lets_the_program_end_by_itself(ground, launched):
    running = launched("polite")
    wait_for_output(running, "waiting")
    ground.engine.stop(running.id)
    assert ground.engine.container(running.id).exit_code == 5
    ground.engine.stop(running.id)


def test_a_program_that_ignores_the_signal_is_killed(ground, launched):
    running = launched("stubborn", grace=0.3)
    wait_for_output(running, "waiting")
    assert stop(running, "SIGINT") == 137


@pytest.mark.parametrize(("signal", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_passed_on_ends_a_program_that_doesnt_handle_it(ground, launched, signal, code):
    running = launched("sleeper")
    wait_for_output(running, "waiting")
    assert stop(running, signal) == code


def test_a_running_container_is_removed_only_by_force(ground, launched):
    running = launched("sleeper")
    with pytest.raises(EngineError, match="is running"):
        ground.engine.remove(running.id)
    ground.engine.remove(running.id, force=True)
    assert ground.engine.container(running.id) is None
    ground.engine.remove(running.id)


def test_containers_are_found_by_their_labels(ground, launched):
    name, _, value = ground.label.partition("=")
    running = launched("hello", labels={name: value, "purpose": "finding"})
    assert running.id in {state.id for state in ground.engine.containers()}
    assert [s.id for s in ground.engine.containers(label="purpose=finding")] == [running.id]
    assert ground.engine.containers(label="purpose=losing") == ()


@pytest.mark.parametrize("act", ["start", "stop", "kill", "wait", "probe"])
def test_says_which_container_doesnt_exist(ground, act):
    with pytest.raises(EngineError, match="there is no container dockyard-test-gone"):
        getattr(ground.engine, act)("dockyard-test-gone")
    assert ground.engine.container("dockyard-test-gone") is None


def test_a_stopped_container_cant_be_killed(ground, launched):
    running = launched("hello")
    ground.engine.wait(running.id)
    with pytest.raises(EngineError, match="isn't running"):
        ground.engine.kill(running.id)


# Ready


def test_a_server_is_ready_when_its_port_is_listened_on(ground, launched, published):
    running = launched("slow_server", ports=(published,))
    ready = wait_ready(running, timeout=30)
    assert ready.how == "listening"
    assert ready.seconds > 0.4
    assert ready.urls == (f"http://127.0.0.1:{published.host}",)
    with socket.create_connection(("127.0.0.1", published.host), timeout=5) as connection:
        connection.settimeout(0.2)
        with pytest.raises(TimeoutError):
            connection.recv(1)


def test_the_engine_finds_a_free_port_when_none_is_named(ground, launched):
    running = launched("server", ports=(Port(container=8080, host_ip="127.0.0.1"),))
    wait_ready(running, timeout=30)
    (port,) = ground.engine.container(running.id).ports
    assert (port.container, port.host_ip) == (8080, "127.0.0.1")
    assert port.host


def test_a_health_check_is_asked_before_the_engine_does(ground, launched):
    running = launched("becomes_healthy", image=ground.checked)
    ready = wait_ready(running, timeout=60)
    assert ready.how == "healthy"
    assert 0.3 < ready.seconds < 30, "the engine's own first check comes after 30 s"


def test_says_when_a_healthy_container_is_deaf_outside(ground, launched):
    """As an app that listens on 127.0.0.1 of its container: the health check alone reaches it."""
    port = Port(container=8080, host_ip="127.0.0.1")
    running = launched("becomes_healthy", image=ground.checked, ports=(port,))
    ready = wait_ready(running, timeout=60)
    assert (ready.how, ready.reached) == ("healthy", False)


def test_an_unhealthy_container_is_an_error(ground, launched):
    running = launched("sleeper", image=ground.sick)
    with pytest.raises(StartError, match="is unhealthy") as caught:
        wait_ready(running, timeout=60)
    assert caught.value.log_tail == ("waiting",)


def test_a_container_that_is_never_ready_is_an_error_in_the_end(ground, launched):
    running = launched("sleeper", image=ground.checked)
    with pytest.raises(StartError, match=r"wasn't ready after 0\.3 s"):
        wait_ready(running, timeout=0.3)


def test_a_program_that_listens_on_nothing_is_ready_at_once(ground, launched):
    assert wait_ready(launched("sleeper"), timeout=30).how == "running"


def test_a_program_that_ends_well_was_ready(ground, launched):
    running = launched("hello")
    ground.engine.wait(running.id)
    assert wait_ready(running).how == "ended"


@pytest.mark.parametrize("remove", [False, True], ids=["kept", "removed by the engine"])
def test_a_death_at_the_start_shows_the_last_lines(ground, launched, published, remove):
    running = launched("fail", remove=remove, ports=(published,))
    with pytest.raises(StartError, match="before it was ready") as caught:
        wait_ready(running, timeout=30)
    assert caught.value.log_tail == ("no model at /app/model.h5",)
    assert "no model at /app/model.h5" in caught.value.hint
    if not remove:
        assert "exit code 3" in caught.value.what
        assert caught.value.container_exit_code == 3


# Refusals


def test_says_which_image_is_missing(ground):
    with pytest.raises(EngineError, match="no image dockyard-test-nothing") as caught:
        ground.engine.create(ground.spec(image="dockyard-test-nothing:1"))
    assert "dockyard build" in caught.value.hint


def test_says_which_name_is_taken(ground, launched):
    name = f"dockyard-test-{os.urandom(4).hex()}"
    launched("sleeper", name=name)
    with pytest.raises(EngineError, match=f"a container named {name} exists already") as caught:
        launched("hello", name=name)
    assert "--name" in caught.value.hint


def test_says_which_port_is_taken_and_leaves_no_container(ground, launched, published):
    launched("server", ports=(published,))
    name = f"dockyard-test-{os.urandom(4).hex()}"
    with pytest.raises(EngineError, match=f"port .*{published.host} is taken") as caught:
        launched("server", name=name, ports=(published,))
    assert "-p" in caught.value.hint
    assert ground.engine.container(name) is None


def test_gpus_that_the_engine_cant_hand_out_are_refused(ground):
    spec = replace(ground.spec("hello"), gpus=Gpus())
    made = []
    with pytest.raises(EngineError, match="can't hand GPUs") as caught:
        made.append(ground.engine.create(spec))
        ground.engine.start(made[0])
    for number in made:
        ground.engine.remove(number, force=True)
    assert "NVIDIA Container Toolkit" in caught.value.hint


def test_says_that_an_image_is_for_another_processor(ground, launched):
    running = launched("hello", image=ground.foreign)
    with pytest.raises(StartError, match="aren't for this processor") as caught:
        ground.engine.wait(running.id)
        wait_ready(running)
    assert f"linux/{ground.engine.info.architecture}" in caught.value.hint


def test_says_which_command_an_image_lacks(ground, launched):
    running = launched("nothing_here")
    ground.engine.wait(running.id)
    with pytest.raises(StartError, match="no command /bin/nothing_here"):
        wait_ready(running)


def test_archives_in_the_tests_are_tars():
    archive = make_archive("x:1", [make_layer({"a": b"1"})], {})
    with tarfile.open(fileobj=io.BytesIO(archive)) as opened:
        assert "manifest.json" in opened.getnames()
