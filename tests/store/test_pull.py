"""Models of the hub: asked for, fetched, checked, pinned; and a hub that fails or lies. Real HTTP on 127.0.0.1."""

from __future__ import annotations

import hashlib
import json
import pickle
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import torch
from hub_server import Hub, Repo, send
from safetensors.torch import save

from t2i.errors import InputError, T2IError, UnavailableError, UsageError
from t2i.store import pull as pulling
from t2i.store.hub_names import SHORT_NAMES, HubName, parse_hub_name, require_hub_name
from t2i.store.pull import is_complete, plan_pull, pull
from t2i.store.pulled import LOCK, check_lock, find_pulled, only_pulled, pulled_models, read_lock, remove_pulled
from t2i.store.registry import resolve

NAME = HubName("acme/painter")
INDEX = {
    "_class_name": "StableDiffusionPipeline",
    "unet": ["diffusers", "UNet2DConditionModel"],
    "scheduler": ["diffusers", "DDIMScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "safety_checker": [None, None],
}


def weights(seed: int, n: int = 400) -> bytes:
    return save({"w": torch.randn(n, generator=torch.Generator().manual_seed(seed))})


def files(**more: bytes) -> dict[str, bytes]:
    plain = {
        "model_index.json": json.dumps(INDEX).encode(),
        "README.md": b"# painter\n",
        "unet/config.json": b"{}",
        "unet/diffusion_pytorch_model.safetensors": weights(1),
        "scheduler/scheduler_config.json": b"{}",
        "text_encoder/config.json": b'{"a": 1}',
        "text_encoder/model.safetensors": weights(2),
        "tokenizer/vocab.json": json.dumps(list(range(300))).encode(),
        "tokenizer/merges.txt": b"a b\n",
    }
    return plain | {name.replace("__", "/"): data for name, data in more.items()}


EXTRA = {
    ".gitattributes": b"*",
    "all_in_one.safetensors": weights(3),
    "unet/diffusion_pytorch_model.bin": pickle.dumps("x"),
    "unet/diffusion_pytorch_model.fp16.safetensors": weights(4),
    "unet/diffusion_pytorch_model.non_ema.safetensors": weights(5),
    "unet/modeling.py": b"raise SystemExit",
    "safety_checker/model.safetensors": weights(6),
    "feature_extractor/preprocessor_config.json": b"{}",
}


def test_a_model_is_pulled_and_pinned(hub: Hub, tmp_path: Path) -> None:
    repo = hub.add("acme/painter", Repo(files() | EXTRA))
    plan = plan_pull(NAME)
    assert (plan.repository.commit, plan.repository.licence) == (repo.commit, "openrail++")
    assert {file.path for file in plan.files} == set(files())
    assert plan.missing == plan.size == sum(map(len, files().values()))
    assert not plan.folder.exists()  # nothing is written before it is told
    seen: list[tuple[int, int]] = []
    model = pull(plan, lambda path, done, total: seen.append((done, total)))
    assert model.path == tmp_path / "home" / "hub" / "acme" / f"painter@{repo.commit[:12]}"
    lock = read_lock(model.path)
    for path, data in files().items():
        assert (model.path / path).read_bytes() == data
        assert lock.files[path].sha256 == hashlib.sha256(data).hexdigest() and lock.files[path].size == len(data)
    assert (lock.repo, lock.commit, lock.revision, lock.hub) == ("acme/painter", repo.commit, "main", hub.url)
    assert seen == sorted(seen) and seen[-1] == (plan.size, plan.size)
    assert set(hub.fetched()) == set(files())
    on_disk = {p.relative_to(model.path).as_posix() for p in model.path.rglob("*") if p.is_file()}
    assert on_disk - {".pull.lock"} == {*files(), LOCK}


def test_it_is_found_by_all_its_names_without_the_hub(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SHORT_NAMES, "painter", "acme/painter")
    repo = hub.add("acme/painter", Repo(files()), "v1")
    folder = pull(plan_pull(HubName("acme/painter", "v1"))).path
    hub.log.clear()
    for name in ("acme/painter", "painter", "painter@v1", "acme/painter@v1", f"acme/painter@{repo.commit}",
                 f"acme/painter@{repo.commit[:9]}", folder.name, str(folder)):  # fmt: skip
        assert resolve(name) == folder, name
    for name in ("acme/painter@v2", "acme/other", "painter@v2", "acme/painter@abc"):
        with pytest.raises(UnavailableError, match="is not here") as caught:
            resolve(name)
        assert "t2i models pull" in caught.value.hint and caught.value.exit_code == 4
    assert not hub.log


def test_the_revision_pulled_last_is_meant(hub: Hub) -> None:
    old = hub.add("acme/painter", Repo(files()), "v1")
    first = pull(plan_pull(NAME)).path
    new = hub.add("acme/painter", Repo(files(unet__config=b"2", **{"unet__config.json": b'{"b": 2}'})))
    second = pull(plan_pull(NAME)).path
    assert first != second
    for folder, when in ((first, "2026-01-01T00:00:00+00:00"), (second, "2026-01-02T00:00:00+00:00")):
        lock = json.loads((folder / LOCK).read_text()) | {"pulled": when}
        (folder / LOCK).write_text(json.dumps(lock))
    assert find_pulled(NAME) == find_pulled(HubName("acme/painter", "main")) == second
    assert find_pulled(HubName("acme/painter", old.commit)) == first
    with pytest.raises(UsageError, match="2 revisions"):
        only_pulled(NAME)
    remove_pulled(only_pulled(HubName("acme/painter", new.commit)))
    assert find_pulled(NAME) == first
    remove_pulled(only_pulled(NAME))
    assert pulled_models() == [] and not first.parent.exists()


def test_one_variant_is_pulled(hub: Hub) -> None:
    hub.add("acme/painter", Repo(files() | EXTRA))
    names = {file.path for file in plan_pull(NAME, "fp16").files}
    assert "unet/diffusion_pytorch_model.fp16.safetensors" in names
    assert "unet/diffusion_pytorch_model.safetensors" not in names
    assert "text_encoder/model.safetensors" in names  # it has no other


def test_shards_come_with_their_index(hub: Hub) -> None:
    shards = {f"unet/diffusion_pytorch_model-0000{i}-of-00002.safetensors": weights(i) for i in (1, 2)}
    half = {f"unet/diffusion_pytorch_model.fp16-0000{i}-of-00002.safetensors": weights(i) for i in (1, 2)}
    indexes = {
        "unet/diffusion_pytorch_model.safetensors.index.json",
        "unet/diffusion_pytorch_model.safetensors.index.fp16.json",
    }
    tree = files() | shards | half | dict.fromkeys(indexes, b"{}")
    del tree["unet/diffusion_pytorch_model.safetensors"]
    hub.add("acme/painter", Repo(tree))
    got = {file.path for file in plan_pull(NAME).files if file.path.startswith("unet/")}
    assert got == {*shards, "unet/diffusion_pytorch_model.safetensors.index.json", "unet/config.json"}
    got = {file.path for file in plan_pull(NAME, "fp16").files if file.path.startswith("unet/")}
    assert got == {*half, "unet/diffusion_pytorch_model.safetensors.index.fp16.json", "unet/config.json"}


def test_a_repository_that_is_no_pipeline(hub: Hub) -> None:
    hub.add("acme/lora", Repo({"pytorch_lora_weights.safetensors": weights(1), "a.json": b"{}", "x/y.json": b"{}"}))
    model = pull(plan_pull(HubName("acme/lora")))
    assert model.lock is not None and set(model.lock.files) == {"pytorch_lora_weights.safetensors", "a.json"}


def test_a_second_pull_fetches_nothing(hub: Hub) -> None:
    hub.add("acme/painter", Repo(files()))
    pull(plan_pull(NAME))
    hub.log.clear()
    plan = plan_pull(NAME)
    assert plan.missing == 0 and is_complete(plan)
    pull(plan)
    assert hub.fetched() == ["model_index.json"]


def test_a_damaged_file_is_fetched_again(hub: Hub) -> None:
    hub.add("acme/painter", Repo(files()))
    folder = pull(plan_pull(NAME)).path
    path = "unet/diffusion_pytorch_model.safetensors"
    damaged = bytearray((folder / path).read_bytes())
    damaged[-1] ^= 1
    (folder / path).write_bytes(damaged)
    with pytest.raises(InputError, match="sha256 differs"):
        check_lock(folder, {path: hashlib.sha256(damaged).hexdigest()})
    with pytest.raises(InputError, match="is not in"):
        check_lock(folder, {"unet/other.safetensors": "0" * 64})
    pull(plan_pull(NAME))
    assert (folder / path).read_bytes() == files()[path]
    check_lock(folder, {path: hashlib.sha256(files()[path]).hexdigest()})


BIG = "unet/diffusion_pytorch_model.safetensors"


def large(data: bytes) -> str:
    return f"/large/{hashlib.sha256(data).hexdigest()}"


def test_an_interrupted_pull_goes_on_where_it_stopped(hub: Hub) -> None:
    hub.add("acme/painter", Repo(files()))

    def stop(path: str, done: int, total: int) -> None:
        if path == BIG:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pull(plan_pull(NAME), stop)
    (unfinished,) = pulled_models()
    assert unfinished.lock is None
    with pytest.raises(UnavailableError, match="unfinished") as caught:
        resolve("acme/painter")
    assert "Go on with" in caught.value.hint
    part = unfinished.path / (BIG + ".part")
    part.write_bytes(files()[BIG][:1000])
    hub.log.clear()
    plan = plan_pull(NAME)
    assert plan.missing < plan.size
    pull(plan)
    assert [ranges for _, path, ranges in hub.log if path == large(files()[BIG])] == ["bytes=1000-"]
    assert (unfinished.path / BIG).read_bytes() == files()[BIG] and not part.exists()


def test_a_connection_that_breaks_is_taken_up_again(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.DOWNLOAD_CHUNK_SIZE", 100)  # less is lost than arrives at once
    hub.add("acme/painter", Repo(files()))
    data = files()[BIG]

    def half(handler: BaseHTTPRequestHandler) -> None:
        del hub.answers[large(data)]
        send(handler, 200, data[:700], length=len(data))

    hub.answers[large(data)] = half
    folder = pull(plan_pull(NAME)).path
    assert (folder / BIG).read_bytes() == data
    assert [ranges for _, path, ranges in hub.log if path == large(data)] == ["", "bytes=700-"]


def test_a_server_without_ranges_starts_again(hub: Hub) -> None:
    hub.add("acme/painter", Repo(files()))
    plan = plan_pull(NAME)
    part = plan.folder / (BIG + ".part")
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 900)
    hub.answers[large(files()[BIG])] = lambda handler: send(handler, 200, files()[BIG])
    assert (pull(plan).path / BIG).read_bytes() == files()[BIG]


def test_a_part_of_another_file_is_thrown_away(hub: Hub) -> None:
    hub.add("acme/painter", Repo(files()))
    plan = plan_pull(NAME)
    part = plan.folder / (BIG + ".part")
    part.parent.mkdir(parents=True)
    part.write_bytes(b"x" * 900)
    with pytest.raises(InputError, match="hash differs"):
        pull(plan)
    assert not part.exists()
    part.write_bytes(b"x" * 90000)  # longer than the file
    assert (pull(plan).path / BIG).read_bytes() == files()[BIG]


def test_what_another_program_has_fetched_is_not_fetched_again(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = hub.add("acme/painter", Repo(files()))
    cache = tmp_path / "cache"
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(cache))
    place = cache / "models--acme--painter" / "snapshots" / repo.commit
    (place / "unet").mkdir(parents=True)
    (place / "text_encoder").mkdir()
    (place / BIG).write_bytes(files()[BIG])
    (place / "text_encoder/model.safetensors").write_bytes(weights(9))  # as long, and another
    plan = plan_pull(NAME)
    assert plan.missing == plan.size - len(weights(1)) - len(weights(2))
    folder = pull(plan).path
    assert BIG not in hub.fetched() and "text_encoder/model.safetensors" in hub.fetched()
    assert (folder / BIG).samefile(place / BIG)
    assert (place / "text_encoder/model.safetensors").read_bytes() == weights(9)
    remove_pulled(only_pulled(NAME))
    assert (place / BIG).read_bytes() == files()[BIG]


# What is refused --------------------------------------------------------------------------------------------------


def refused(name: HubName = NAME) -> T2IError:
    """The error of a pull; nothing that could be taken for a model is left."""
    with pytest.raises(T2IError) as caught:
        pull(plan_pull(name))
    assert all(model.lock is None for model in pulled_models())
    with pytest.raises(UnavailableError):
        find_pulled(name)
    return caught.value


def test_gated(hub: Hub) -> None:
    hub.add("acme/painter", Repo(files(), gated=True))
    error = refused()
    assert "gated" in error.message and f"{hub.url}/acme/painter" in error.message and "hf auth login" in error.hint
    assert error.exit_code == 4


@pytest.mark.parametrize("name", [HubName("acme/nothing"), HubName("acme/painter", "v9")])
def test_what_is_not_there(hub: Hub, name: HubName) -> None:
    hub.add("acme/painter", Repo(files()))
    error = refused(name)
    assert error.code == "model" and ("has no acme/nothing" in error.message or "no revision 'v9'" in error.message)


@pytest.mark.parametrize("variable", ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"])
def test_offline(hub: Hub, monkeypatch: pytest.MonkeyPatch, variable: str) -> None:
    monkeypatch.setenv(variable, "1")
    error = refused()
    assert error.exit_code == 4 and variable in error.message and not hub.log


def test_no_hub_at_all(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    error = refused()
    assert error.exit_code == 4 and "http://127.0.0.1:9 cannot be reached" in error.message


def test_a_hub_that_is_down(hub: Hub) -> None:
    hub.answers["/api/models/acme/painter"] = lambda handler: send(handler, 500)
    assert refused().message == f"{hub.url} answered 500 for acme/painter."


def test_a_pickle_is_not_pulled(hub: Hub) -> None:
    tree = files()
    tree["unet/diffusion_pytorch_model.bin"] = tree.pop(BIG)
    hub.add("acme/painter", Repo(tree))
    error = refused()
    assert "unet/diffusion_pytorch_model.bin as a pickle only" in error.message and error.exit_code == 3
    assert hub.fetched() == ["model_index.json"]


def test_no_weights_at_all(hub: Hub) -> None:
    hub.add("acme/painter", Repo({"README.md": b"nothing here"}))
    assert "holds no weights" in refused().message


def test_no_room(hub: Hub) -> None:
    """Files of 10^15 bytes, of which not one is asked for."""

    def huge(entry: dict[str, Any]) -> None:
        if "lfs" in entry:
            entry["lfs"]["size"] = 10**15

    hub.add("acme/painter", Repo({**files(), "tokenizer/vocab.json": b"{}"}, listing=huge))
    hub.repos["acme/painter"]["main"].files["model_index.json"] = b'{"unet": ["diffusers", "U"]}'
    error = refused()
    assert "needs 1000000.0 GB more" in error.message and error.exit_code == 3
    assert hub.fetched() == ["model_index.json"]


@pytest.mark.parametrize(
    "path",
    [
        "../../evil.json",
        "/etc/evil.json",
        "unet/../../evil.json",
        "unet\\evil.json",
        "C:evil",
        "a\0b",
        "a//b",
        "y" * 300,
    ],
)
def test_paths_that_lead_out(hub: Hub, tmp_path: Path, path: str) -> None:
    hub.add("acme/painter", Repo({**files(), path: b"{}"}))
    assert "no path inside a repository" in refused().message
    assert not list(tmp_path.rglob("evil*"))


def test_a_model_index_that_leads_out(hub: Hub, tmp_path: Path) -> None:
    index = json.dumps(INDEX | {"../../..": ["diffusers", "X"], "..": ["a", "b"]}).encode()
    hub.add("acme/painter", Repo({**files(), "model_index.json": index}))
    folder = pull(plan_pull(NAME)).path
    outside = {p for p in (tmp_path / "home").rglob("*") if p.is_file() and folder not in p.parents}
    assert not outside


LIES: dict[str, Callable[[dict[str, Any]], None]] = {
    "negative size": lambda entry: entry.update(size=-1, lfs=None),
    "size is text": lambda entry: entry.update(size="9", lfs=None),
    "no size": lambda entry: entry.update(size=None, lfs=None),
    "no hash": lambda entry: entry.update(blobId=None, lfs=None),
    "strange hash": lambda entry: entry.update(lfs={"size": 1, "sha256": "../x", "pointerSize": 1}),
    "lfs is a list": lambda entry: entry.update(lfs=[1]),
    "no name": lambda entry: entry.pop("rfilename"),
    "name is a number": lambda entry: entry.update(rfilename=3),
}


@pytest.mark.parametrize("lie", LIES)
def test_listings_that_make_no_sense(hub: Hub, lie: str) -> None:
    hub.add("acme/painter", Repo(files(), listing=LIES[lie]))
    error = refused()
    assert f"the answer of {hub.url} cannot be used" in error.message and error.exit_code == 3


FIELDS: dict[str, dict[str, Any]] = {
    "commit leads out": {"sha": "../../../evil"},
    "no commit": {"sha": None},
    "siblings is a number": {"siblings": 3},
    "a file twice": {"siblings": [{"rfilename": "a", "size": 1, "blobId": "0" * 40}] * 2},
    "card is text": {"cardData": "x"},
}


@pytest.mark.parametrize("lie", FIELDS)
def test_answers_that_make_no_sense(hub: Hub, lie: str) -> None:
    hub.add("acme/painter", Repo(files(), fields=FIELDS[lie]))
    assert refused().exit_code == 3


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"[" * 100_000])
def test_answers_that_are_no_json(hub: Hub, body: bytes) -> None:
    hub.answers["/api/models/acme/painter"] = lambda handler: send(handler, 200, body)
    assert refused().exit_code == 3


def test_other_bytes_of_the_same_length(hub: Hub) -> None:
    hub.add("acme/painter", Repo(files()))
    data = bytearray(files()[BIG])
    data[-1] ^= 1
    hub.answers[large(files()[BIG])] = lambda handler: send(handler, 200, bytes(data))
    error = refused()
    assert BIG in error.message and "its hash differs" in error.message and error.exit_code == 3
    assert not list(pulled_models()[0].path.rglob("*.part"))


def test_another_config_of_the_same_length(hub: Hub) -> None:
    repo = hub.add("acme/painter", Repo(files()))
    path = f"/acme/painter/resolve/{repo.commit}/text_encoder/config.json"
    hub.answers[path] = lambda handler: send(handler, 200, b'{"a": 2}')
    assert "text_encoder/config.json" in refused().message


def test_another_model_index(hub: Hub) -> None:
    repo = hub.add("acme/painter", Repo(files()))
    body = bytes(reversed(files()["model_index.json"]))
    hub.answers[f"/acme/painter/resolve/{repo.commit}/model_index.json"] = lambda handler: send(handler, 200, body)
    hub.answers[large(files()["model_index.json"])] = lambda handler: send(handler, 200, body)
    assert "model_index.json" in refused().message


def test_a_body_without_end(hub: Hub) -> None:
    """It is left as soon as it is longer than the hub lists."""
    hub.add("acme/painter", Repo(files()))
    sent = 0

    def endless(handler: BaseHTTPRequestHandler) -> None:
        nonlocal sent
        handler.send_response(200)
        handler.send_header("Connection", "close")
        handler.end_headers()
        handler.close_connection = True
        try:
            while sent < 1 << 30:
                handler.wfile.write(b"x" * (1 << 20))
                sent += 1 << 20
        except OSError:
            return

    hub.answers[large(files()[BIG])] = endless
    assert "goes on after" in refused().message
    assert sent < 1 << 28
    part = pulled_models()[0].path / (BIG + ".part")
    assert part.stat().st_size <= len(files()[BIG])


def test_a_body_that_is_too_short(hub: Hub) -> None:
    hub.add("acme/painter", Repo(files()))
    hub.answers[large(files()[BIG])] = lambda handler: send(handler, 200, files()[BIG][:500])
    error = refused()
    assert "cut its answer short" in error.message and "goes on from there" in error.hint
    hub.answers.clear()
    hub.log.clear()
    pull(plan_pull(NAME))
    assert [ranges for _, path, ranges in hub.log if path == large(files()[BIG])] == ["bytes=500-"]


@pytest.mark.parametrize("place", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://127.0.0.1:9/x", "//", "x:y"])
def test_redirects_to_elsewhere(hub: Hub, place: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("time.sleep", lambda seconds: None)  # the library waits before it tries again
    repo = hub.add("acme/painter", Repo(files()))
    answer = lambda handler: send(handler, 302, headers={"Location": place})  # noqa: E731
    hub.answers[f"/acme/painter/resolve/{repo.commit}/{BIG}"] = answer
    assert refused().exit_code in (3, 4)
    assert not (pulled_models()[0].path / BIG).exists()


def test_the_token_is_sent_to_the_hub_only(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_TOKEN", "good")
    repo = hub.add("acme/painter", Repo(files(), gated=True))
    elsewhere, tokens = Hub(), list[str | None]()
    server = elsewhere.serve()

    def answer(handler: BaseHTTPRequestHandler) -> None:
        tokens.append(handler.headers.get("Authorization"))
        send(handler, 200, files()[BIG])

    elsewhere.answers["/store"] = answer
    place = f"{elsewhere.url}/store"
    path = f"/acme/painter/resolve/{repo.commit}/{BIG}"
    hub.answers[path] = lambda handler: send(handler, 302, headers={"Location": place})
    pull(plan_pull(NAME))
    server.shutdown()
    server.server_close()
    assert tokens == [None]


def test_redirects_in_a_circle(hub: Hub) -> None:
    repo = hub.add("acme/painter", Repo(files()))
    path = f"/acme/painter/resolve/{repo.commit}/{BIG}"
    hub.answers[path] = lambda handler: send(handler, 302, headers={"Location": path})
    assert refused().exit_code == 4


def test_two_pulls_at_once(hub: Hub) -> None:
    hub.add("acme/painter", Repo(files()))
    plan = plan_pull(NAME)

    def again(path: str, done: int, total: int) -> None:
        with pytest.raises(UnavailableError, match="another pull of acme/painter is running"):
            pull(plan)

    pull(plan, again)


@pytest.mark.parametrize(
    "damage",
    ["", "{", "[]", '{"schema": 9}', "[" * 10_000],
)
def test_a_damaged_lock(hub: Hub, damage: str) -> None:
    hub.add("acme/painter", Repo(files()))
    folder = pull(plan_pull(NAME)).path
    (folder / LOCK).write_text(damage)
    with pytest.raises(InputError, match=r"t2i\.lock\.json"):
        check_lock(folder, {})
    with pytest.raises(UnavailableError):
        resolve("acme/painter")
    assert "cannot be used" in (pulled_models()[0].fault or "")
    pull(plan_pull(NAME))
    assert resolve("acme/painter") == folder


@pytest.mark.parametrize(
    ("text", "repo", "revision"),
    [
        ("acme/painter", "acme/painter", ""),
        ("a/b.c-d_e@refs/pr/3", "a/b.c-d_e", "refs/pr/3"),
        ("sdxl", SHORT_NAMES["sdxl"], ""),
        ("sdxl@fp16", SHORT_NAMES["sdxl"], "fp16"),
    ],
)
def test_names(text: str, repo: str, revision: str) -> None:
    assert parse_hub_name(text) == HubName(repo, revision)


@pytest.mark.parametrize(
    "text",
    ["", "a", "a/b/c", "../b", "a/..", "/a/b", "a/b@", "a/b@../x", "a/b@x..y", "a b/c", "a/b\n", "ａ/b", "a/-b", ".a/b",
     "a--b/c", "sdxl@"],
)  # fmt: skip
def test_texts_that_are_no_name(text: str) -> None:
    assert parse_hub_name(text) is None
    with pytest.raises(UsageError):
        require_hub_name(text)


def test_every_short_name_is_a_repository_name() -> None:
    for short, repo in SHORT_NAMES.items():
        assert parse_hub_name(repo) == HubName(repo) and "/" not in short
    assert pulling.PART not in SHORT_NAMES
