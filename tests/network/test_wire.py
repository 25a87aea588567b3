"""Frames and sessions of the wire, in memory: the bytes of one side are given to the other."""

import random
import struct
import tracemalloc
import zlib
from dataclasses import replace
from math import inf, nan

import msgpack
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from coach_exp.network.wire import (
    CRC,
    DEFAULT_LIMITS,
    FRAME_VERSION,
    MAGIC,
    PREFIX,
    PROTOCOL_VERSION,
    SMALL_HEADER_BYTES,
    FrameDecoder,
    Limits,
    encode,
)
from coach_exp.network.wire_auth import Prover, fresh_nonce
from coach_exp.network.wire_client import MAX_CANCELLED, ClientSession
from coach_exp.network.wire_messages import (
    MAX_LAYERS,
    MESSAGES,
    Answer,
    Bye,
    Cancel,
    Challenge,
    CloudHead,
    CrossingTensor,
    Hello,
    Kind,
    Ping,
    PlanOk,
    PlanRefused,
    Pong,
    Proof,
    Refused,
    Tensor,
    Welcome,
    WirePlan,
    shown,
    wire_plan,
)
from coach_exp.network.wire_server import ServerSession
from coach_exp.network.wire_session import MAX_PINGS, Closed, Opened, Send
from coach_exp.types.errors import ConfigError, WireError
from coach_exp.types.outcomes import Crossing
from coach_exp.types.plan import (
    Bubbles,
    DecisionPoint,
    ObjectiveValue,
    Overlap,
    Plan,
    StageTimes,
)

PLAN = WirePlan(
    3,
    ("in", "stem", "left"),
    (CrossingTensor("stem", 4, 0.25), CrossingTensor("left", 16, 0.5)),
    (CloudHead("add", 0.125, inf), CloudHead("right", 0.5, 0.75)),
)
FIRST = Tensor(7, 3, "stem", 0, 2, b"stem's bytes")
SECOND = Tensor(7, 3, "left", 1, 2, b"left's bytes")
ANSWER = Answer(7, 12, None, 5.0, 4.5, 6.0, 0.75)
EVERY = (
    Hello(PROTOCOL_VERSION, "resnet18-5f", "end of the line", bytes(range(32))),
    Challenge(bytes(32), True),
    Proof(bytes(32)),
    Welcome("cloud", b""),
    Refused("the model is another"),
    PLAN,
    PlanOk(3),
    PlanRefused(3, "no such layer"),
    FIRST,
    replace(ANSWER, exit="add"),
    Cancel(7),
    Ping(1.5),
    Pong(1.5, 100.25, 100.5),
    Bye(),
)


def frame(kind, header, payload=b"", *, magic=MAGIC, version=FRAME_VERSION, crc=None):
    """Bytes of any frame, sound or not; `header` is a dict or bytes."""
    packed = header if isinstance(header, bytes) else msgpack.packb(header)
    body = struct.pack(">4sBBII", magic, version, kind, len(packed), len(payload))
    body += packed + payload
    return body + struct.pack(">I", zlib.crc32(body) if crc is None else crc)


def header_of(message):
    data = encode(message)
    _, _, _, header_bytes, _ = PREFIX.unpack(data[: PREFIX.size])
    return msgpack.unpackb(data[PREFIX.size : PREFIX.size + header_bytes])


def decoded(data, pieces=None, **given_to_decoder):
    """Messages in bytes that come in pieces of these sizes, the rest as one."""
    decoder, messages = FrameDecoder(**given_to_decoder), []
    for size in [*(pieces or ()), len(data)]:
        piece, data = data[:size], data[size:]
        if piece:
            decoder.feed(piece)
        while (message := decoder.next_message()) is not None:
            messages.append(message)
    decoder.feed(b"")
    assert decoder.next_message() is None
    return messages


# Frames


def test_the_bytes_of_a_frame_by_hand():
    header = b"\x81\xa4plan\x03"  # a map of one: a string of four, the number 3
    body = b"COAC\x01\x07\x00\x00\x00\x07\x00\x00\x00\x00" + header
    assert encode(PlanOk(3)) == body + zlib.crc32(body).to_bytes(4, "big")


def test_a_payload_travels_as_it_is_behind_the_header():
    data = encode(FIRST)
    assert data[: -CRC.size].endswith(b"stem's bytes")
    assert b"payload" not in data
    assert struct.unpack(">I", data[10:14]) == (12,)


def test_there_is_a_message_of_every_kind():
    assert [type(message) for message in EVERY] == list(MESSAGES.values())
    assert list(MESSAGES) == list(Kind)


@pytest.mark.parametrize("message", EVERY, ids=lambda m: type(m).__name__)
def test_every_message_survives_every_split(message):
    data = encode(message)
    assert decoded(data, [1] * len(data)) == [message]
    for at in range(len(data)):
        assert decoded(data + data, [at, len(data)]) == [message, message]


printable = st.text(st.characters(exclude_categories=["C", "Z"]), min_size=1, max_size=200)
count = st.integers(0, 2**31 - 1)
task = st.integers(0, 2**53 - 1)
clock = st.floats(allow_nan=False, allow_infinity=False)
work = st.floats(0, 60)
nonce = st.binary(min_size=32, max_size=32)
proof = st.binary(max_size=32)
width = st.sampled_from([1, 2, 3, 4, 5, 6, 7, 8, 16, 32])


@st.composite
def wire_plans(draw):
    layers = draw(st.lists(printable, min_size=1, max_size=8, unique=True))
    sent = draw(st.lists(st.sampled_from(layers), min_size=1, max_size=4, unique=True))
    heads = st.builds(CloudHead, printable, work, st.floats(allow_nan=False))
    return WirePlan(
        draw(count),
        tuple(layers),
        tuple(CrossingTensor(layer, draw(width), draw(work)) for layer in sent),
        tuple(draw(st.lists(heads, max_size=3))),
    )


@st.composite
def answers(draw):
    received_s, start_s, end_s = draw(clock), draw(clock), draw(clock)
    return Answer(
        draw(task),
        draw(count),
        draw(st.none() | printable),
        received_s,
        start_s,
        max(received_s, start_s, end_s),
        draw(st.floats(0, 1e300)),
    )


@st.composite
def tensors(draw):
    parts = draw(st.integers(1, 256))
    part = draw(st.integers(0, parts - 1))
    return Tensor(
        draw(task), draw(count), draw(printable), part, parts, draw(st.binary(max_size=99))
    )


any_message = st.one_of(
    st.builds(Hello, st.just(PROTOCOL_VERSION), printable, printable, nonce),
    st.builds(Challenge, nonce, st.booleans()),
    st.builds(Proof, proof),
    st.builds(Welcome, printable, proof),
    st.builds(Refused, printable),
    wire_plans(),
    st.builds(PlanOk, count),
    st.builds(PlanRefused, count, printable),
    tensors(),
    answers(),
    st.builds(Cancel, task),
    st.builds(Ping, clock),
    st.builds(Pong, clock, clock, clock),
    st.just(Bye()),
)


@given(st.lists(any_message, max_size=4), st.lists(st.integers(1, 60), max_size=30))
def test_messages_survive_the_wire_in_any_pieces(messages, pieces):
    assert decoded(b"".join(map(encode, messages)), pieces) == messages


def changed(message, **fields):
    return frame(
        Kind[_name(message)], {**header_of(message), **fields}, getattr(message, "payload", b"")
    )


def _name(message):
    return next(kind.name for kind, of in MESSAGES.items() if of is type(message))


SMALL = Limits(header_bytes=50, payload_bytes=11)
BROKEN = [
    (frame(7, {"plan": 3}, magic=b"HTTP"), "begins with b'COAC'"),
    (b"G", "begins with b'COAC'"),
    (frame(7, {"plan": 3}, version=2), "version 2, those of this side of version 1"),
    (frame(0, {}), "no kind 0"),
    (frame(15, {}), "no kind 15"),
    (frame(7, {"plan": 3}, crc=0), "CRC of a PLAN_OK does not fit"),
    (frame(7, {"plan": 3}, b"x"), "payload of a PLAN_OK has at most 0 bytes, not 1"),
    (frame(7, bytes(SMALL_HEADER_BYTES + 1)), "header of a PLAN_OK has at most 4096 bytes"),
    (struct.pack(">4sBBII", MAGIC, 1, 9, 0, 2**32 - 1), "TENSOR has at most 33554432 bytes"),
    (struct.pack(">4sBBII", MAGIC, 1, 6, 2**32 - 1, 0), "PLAN has at most 262144 bytes"),
    (encode(PlanOk(3))[:-1], "hung up within a frame, after 24 bytes"),
    (encode(PlanOk(3)) + b"CO", "hung up within a frame, after 2 bytes"),
    (frame(7, b""), "no msgpack"),
    (frame(7, b"\xc1"), "no msgpack"),
    (frame(7, b"\x81\xa4plan\x03\x00"), "no msgpack"),
    (frame(7, b"\x81\xa4plan"), "no msgpack"),
    (frame(7, b"\x81\xa4\xff\xff\xff\xff\x03"), "no msgpack"),
    (frame(7, b"\x82\xa4plan\x03\xa4plan\x04"), "twice in a map"),
    (frame(7, b"\x81\x01\x03"), "no msgpack"),
    (frame(7, b"\x03"), "map of its fields"),
    (frame(7, {"plan": msgpack.ExtType(1, b"x")}), "no msgpack"),
    (frame(7, {"plan": [3]}), "no msgpack"),
    (frame(7, {}), "PLAN_OK is wrong: plan"),
    (frame(7, {"plan": 3, "more": 1}), "more Unexpected"),
    (frame(7, {"plan": 3, b"more": 1}), "Keys should be strings|keys should be strings"),
    (frame(7, {"plan": "3"}), "plan should be a valid integer"),
    (frame(7, {"plan": True}), "plan should be a valid integer"),
    (frame(7, {"plan": 3.0}), "plan should be a valid integer"),
    (frame(7, {"plan": -1}), "plan should be greater than or equal to 0"),
    (frame(7, {"plan": 2**31}), "plan should be less than"),
    (changed(EVERY[0], protocol=2), "version 2 of the protocol, this side version 1"),
    (changed(EVERY[0], protocol=2, more="of it"), "version 2 of the protocol"),
    (changed(EVERY[0], protocol="one"), r"version \? of the protocol"),
    (changed(EVERY[0], nonce=bytes(31)), "nonce .*at least 32"),
    (changed(EVERY[0], nonce="x" * 32), "nonce should be a valid bytes"),
    (changed(EVERY[0], client="\x1b[31mred"), "client should hold printable"),
    (changed(EVERY[0], client=""), "client .*at least 1"),
    (changed(EVERY[0], client="x" * 201), "client .*at most 200"),
    (changed(EVERY[0], fingerprint=None), "fingerprint should be a valid string"),
    (changed(EVERY[1], token=1), "token should be a valid bool"),
    (changed(EVERY[2], proof=bytes(33)), "proof .*at most 32"),
    (changed(PLAN, end_layers=[]), "end_layers .*at least 1"),
    (changed(PLAN, end_layers=["in", "in", "stem", "left"]), "no layer twice"),
    (changed(PLAN, end_layers=["in"]), "outputs of its end layers alone"),
    (changed(PLAN, end_layers=["in"] * (MAX_LAYERS + 1)), "no msgpack"),
    (changed(PLAN, crossing=[]), "crossing .*at least 1"),
    (changed(PLAN, crossing=[{"layer": "in", "bits": 9, "work_s": 0}]), "bits should be 1 to 8"),
    (changed(PLAN, crossing=[{"layer": "in", "bits": 8}]), "crossing.0.work_s"),
    (changed(PLAN, crossing=[{"layer": "in", "bits": 8, "work_s": -1}]), "work_s should be"),
    (changed(PLAN, crossing=[{"layer": "in", "bits": 8, "work_s": 61.0}]), "work_s should be"),
    (changed(PLAN, crossing=[["in", 8, 0]]), "crossing.0"),
    (changed(PLAN, heads=[{"layer": "in", "at_s": 0.0, "threshold": nan}]), "threshold should be"),
    (changed(PLAN, heads=[{"layer": "in", "at_s": inf, "threshold": 1.0}]), "at_s should be"),
    (changed(FIRST, part=2), "part should be less than parts"),
    (changed(FIRST, payload=b"x"), "no field 'payload'"),
    (changed(FIRST, task=2**53), "task should be less than"),
    (changed(ANSWER, end_s=4.75), "end_s should not be before"),
    (changed(ANSWER, start_s=nan), "start_s should be a finite"),
    (changed(ANSWER, busy_s=-0.5), "busy_s should be"),
    (changed(EVERY[11], sent_s=inf), "sent_s should be a finite"),
]


@pytest.mark.parametrize(("data", "words"), BROKEN)
def test_a_broken_frame_is_refused_with_the_rule_it_breaks(data, words):
    sound = encode(Ping(0.0))
    for pieces in ([], [1] * len(sound + data)):
        with pytest.raises(WireError, match=words):
            decoded(sound + data, pieces)


def test_after_an_error_everything_is_refused():
    decoder = FrameDecoder()
    decoder.feed(frame(7, {"plan": 3}, crc=0) + encode(PlanOk(3)))
    with pytest.raises(WireError, match="CRC"):
        decoder.next_message()
    with pytest.raises(WireError, match="nothing more is read: the CRC"):
        decoder.next_message()
    with pytest.raises(WireError, match="to be closed"):
        decoder.feed(encode(PlanOk(3)))


def test_what_a_peer_refuses_is_not_sent():
    assert decoded(encode(replace(FIRST, payload=bytes(11)), SMALL), limits=SMALL)
    with pytest.raises(WireError, match="payload of a TENSOR has at most 11 bytes, not 12"):
        encode(FIRST, SMALL)
    with pytest.raises(WireError, match="header of a PLAN has at most 50 bytes"):
        encode(PLAN, SMALL)
    with pytest.raises(WireError, match="payload of a TENSOR has at most 11"):
        decoded(encode(FIRST), limits=SMALL)
    with pytest.raises(WireError, match="header of a PLAN has at most 50"):
        decoded(encode(PLAN), limits=SMALL)
    with pytest.raises(ValidationError, match="should be 1 to 8"):
        CrossingTensor("stem", 9, 0.0)


def test_lengths_are_judged_by_the_prefix_alone():
    decoder = FrameDecoder(SMALL)
    decoder.feed(struct.pack(">4sBBII", MAGIC, FRAME_VERSION, Kind.TENSOR, 0, 12))
    with pytest.raises(WireError, match="at most 11 bytes, not 12"):
        decoder.next_message()


def test_a_kind_that_may_not_come_now_is_refused_by_its_prefix():
    decoder = FrameDecoder(accepts={Hello, Bye})
    decoder.feed(encode(FIRST)[: PREFIX.size])
    with pytest.raises(WireError, match="TENSOR is out of order: only BYE, HELLO may come now"):
        decoder.next_message()


@pytest.mark.parametrize("message", EVERY, ids=lambda m: type(m).__name__)
def test_no_flipped_bit_goes_unseen(message):
    sound = encode(message)
    for bit in range(8 * len(sound)):
        data = bytearray(sound)
        data[bit // 8] ^= 1 << bit % 8
        with pytest.raises(WireError):
            decoded(bytes(data))


@given(st.binary(max_size=100), st.booleans())
def test_random_bytes_raise_wire_error_alone(noise, behind_a_sound_prefix):
    data = frame(9, noise, noise) if behind_a_sound_prefix else noise
    if data:
        with pytest.raises(WireError):
            decoded(data)


def test_no_header_makes_the_decoder_allocate_much_more_than_its_bytes():
    # Arrays that claim more elements than follow, nested as deep as the header has bytes.
    bombs = [
        frame(kind, claim * 100, b"")
        for kind in Kind
        for claim in (
            b"\xdd\x00\x00\x10\x00",
            b"\xdd\x7f\xff\xff\xff",
            b"\xdf\x7f\xff\xff\xff",
            b"\xdf\x00\x00\x00\x10\xa1x",
            b"\xc6\x7f\xff\xff\xff",
            b"\xc9\x7f\xff\xff\xff\x01",
        )
    ]
    tracemalloc.start()
    try:
        for bomb in bombs:
            with pytest.raises(WireError):
                decoded(bomb)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 100 * 8 * MAX_LAYERS + 100_000


def test_text_that_cannot_be_printed_is_made_so():
    assert shown("\x1b[2J" + "x" * 500, 8) == "?[2Jxxx…"
    assert Refused(shown("\n")).reason == "?"


def test_a_plan_as_the_cloud_sees_it():
    plan = Plan(
        end_layers=("in", "a"),
        crossing=(Crossing("a", 4),),
        release="after_decision",
        stage_s=StageTimes(1, 2, 3),
        overlap_s=Overlap(0, 0),
        latency_s=6,
        objective=ObjectiveValue("paper", 1, Bubbles(0, 0)),
        ready_s=(1,),
        cloud_work_s=(3,),
        payload_bytes=(100,),
        heads=(DecisionPoint("end", "a", 1, 0.5), DecisionPoint("cloud", "b", 2, 0.75)),
    )
    assert wire_plan(9, plan) == WirePlan(
        9, ("in", "a"), (CrossingTensor("a", 4, 3.0),), (CloudHead("b", 2.0, 0.75),)
    )
    with pytest.raises(WireError, match=r"plan device-only cannot be sent: crossing .*at least 1"):
        wire_plan(9, replace(plan, crossing=(), cloud_work_s=()))


# Sessions

TOKEN = "a token that both sides have"
MODEL = "resnet18-5f"


def sessions(client_token=TOKEN, server_token=TOKEN, client_model=MODEL, limits=DEFAULT_LIMITS):
    return (
        ClientSession(client_model, "end", fresh_nonce(), Prover(client_token), limits),
        ServerSession(MODEL, "cloud", fresh_nonce(), Prover(server_token), limits),
    )


def talk(client, server, to_server=b"", to_client=b""):
    """Hand bytes to and fro until nobody has anything to send: events of the end, of the cloud."""
    seen = {client: [], server: []}
    waiting = [(server, to_server), (client, to_client)]
    while waiting:
        side, data = waiting.pop(0)
        if not data or side.closed:
            continue
        for event in side.receive(data):
            if isinstance(event, Send):
                waiting.append((client if side is server else server, event.data))
            else:
                seen[side].append(event)
    return seen[client], seen[server]


def opened(**settings):
    client, server = sessions(**settings)
    ends, clouds = talk(client, server, client.hello())
    assert ends == [Opened("cloud")]
    assert clouds == [Opened("end")]
    return client, server


def with_plan(plan=PLAN, **settings):
    client, server = opened(**settings)
    assert talk(client, server, client.register(plan)) == ([], [plan])
    assert talk(client, server, to_client=server.accept_plan(plan.plan)) == (
        [PlanOk(plan.plan)],
        [],
    )
    return client, server


def closed(session, data):
    """The reason with which a session closes on these bytes, and what it tells the peer."""
    *before, last = session.receive(data)
    assert isinstance(last, Closed)
    assert session.closed == last.reason
    said = [m for event in before if isinstance(event, Send) for m in decoded(event.data)]
    return last, [message.reason for message in said if isinstance(message, Refused)]


@pytest.mark.parametrize("token", [TOKEN, None], ids=["with a token", "without"])
def test_the_handshake_opens_both_sides(token):
    opened(client_token=token, server_token=token)


def test_the_cloud_says_whether_it_asks_for_a_token():
    for token in (TOKEN, None):
        client, server = sessions(token, token)
        (answer,) = server.receive(client.hello())
        (challenge,) = decoded(answer.data)
        assert challenge.token == (token is not None)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"client_token": "another"}, "end does not prove that it has the cloud's token"),
        ({"client_token": None}, "asks for a token and this end has none"),
        ({"server_token": None}, "this end has a token and the cloud asks for none"),
        ({"client_model": "vgg16-aa"}, "end's model is vgg16-aa, the cloud's resnet18-5f"),
    ],
)
def test_a_mismatch_is_refused_with_a_reason_on_both_sides(settings, words):
    client, server = sessions(**settings)
    (end,), (cloud,) = talk(client, server, client.hello())
    for side in (end, cloud):
        with pytest.raises(WireError, match=words):
            raise side.error
    assert {words in end.reason, words in cloud.reason} == {True}
    with pytest.raises(WireError, match="session is over"):
        client.register(PLAN)
    with pytest.raises(WireError, match="session is over"):
        server.receive(b"more")


def test_another_version_is_refused_with_a_reason_on_both_sides():
    client, server = sessions()
    hello = changed(decoded(client.hello())[0], protocol=2)
    (end,), (cloud,) = talk(client, server, hello)
    assert "version 2 of the protocol, this side version 1" in cloud.reason
    assert cloud.reason in end.reason


def test_names_that_cannot_be_printed_are_made_so():
    client = ClientSession(MODEL, "end\n" + "x" * 300, fresh_nonce(), Prover(None))
    server = ServerSession(MODEL, "cloud\x1b", fresh_nonce(), Prover(None))
    (end,), (cloud,) = talk(client, server, client.hello())
    assert end == Opened("cloud?")
    assert cloud == Opened("end?" + "x" * 195 + "…")


def test_a_model_is_told_to_no_peer_without_the_token():
    client, server = sessions(client_token="another", client_model="vgg16-aa")
    (end,), _ = talk(client, server, client.hello())
    assert MODEL not in end.reason


def test_a_cloud_that_lacks_the_token_is_refused_though_it_lets_the_end_in():
    client, server = sessions()
    (challenge,) = server.receive(client.hello())
    client.receive(challenge.data)
    forged = encode(Welcome("cloud", Prover("a guess").proof("cloud", bytes(32), bytes(32), MODEL)))
    last, said = closed(client, forged)
    assert "the cloud does not prove that it has this end's token" in last.reason
    assert said == [last.reason]


def test_the_ends_own_proof_does_not_serve_the_cloud():
    client, server = sessions()
    (challenge,) = server.receive(client.hello())
    (proof,) = client.receive(challenge.data)
    echoed = encode(Welcome("cloud", decoded(proof.data)[0].proof))
    assert "does not prove" in closed(client, echoed)[0].reason


def test_a_recorded_handshake_does_not_open_another_session():
    client, server = sessions()
    hello = client.hello()
    (challenge,) = server.receive(hello)
    (proof,) = client.receive(challenge.data)
    assert Opened("end") in server.receive(proof.data)
    _, another = sessions()
    another.receive(hello)
    assert "does not prove" in closed(another, proof.data)[0].reason


def test_a_proof_depends_on_all_that_it_is_about():
    prover, a, b = Prover(TOKEN), bytes(32), bytes(31) + b"\1"
    proofs = {
        prover.proof("end", a, b, MODEL),
        prover.proof("cloud", a, b, MODEL),
        prover.proof("end", b, a, MODEL),
        prover.proof("end", a, a, MODEL),
        prover.proof("end", a, b, "another"),
        Prover("another").proof("end", a, b, MODEL),
    }
    assert len(proofs) == 6
    assert all(len(proof) == 32 for proof in proofs)
    assert TOKEN not in repr(prover)
    with pytest.raises(ConfigError, match="empty token"):
        Prover("")


@pytest.mark.parametrize("message", EVERY[1:], ids=lambda m: type(m).__name__)
def test_hello_is_first(message):
    _, server = sessions()
    last, said = closed(server, encode(message))
    if isinstance(message, Refused | Bye):
        assert said == []
    else:
        assert said == [last.reason]
        assert "out of order: only BYE, HELLO, REFUSED may come now" in last.reason


@pytest.mark.parametrize("message", [PLAN, FIRST, Ping(0.0), EVERY[0]], ids=lambda m: _name(m))
def test_nothing_but_the_proof_comes_before_welcome(message):
    client, server = sessions()
    server.receive(client.hello())
    assert "only BYE, PROOF, REFUSED may" in closed(server, encode(message))[0].reason


@pytest.mark.parametrize(
    "message", [ANSWER, PlanOk(3), Ping(0.0), Welcome("c", b"")], ids=lambda m: _name(m)
)
def test_the_end_hears_nothing_but_the_challenge_first(message):
    client, _ = sessions()
    client.hello()
    assert "only BYE, CHALLENGE, REFUSED may" in closed(client, encode(message))[0].reason


@pytest.mark.parametrize(
    "say",
    [
        lambda client: client.register(PLAN),
        lambda client: client.tensor(FIRST),
        lambda client: client.cancel(7),
        lambda client: client.ping(0.0),
    ],
)
def test_the_end_says_nothing_before_welcome(say):
    with pytest.raises(WireError, match="nothing is said before WELCOME"):
        say(sessions()[0])


@pytest.mark.parametrize("message", [ANSWER, PlanOk(3), EVERY[0], EVERY[2]], ids=lambda m: _name(m))
def test_each_side_says_its_own_words_alone(message):
    _, server = opened()
    assert f"{_name(message)} is out of order" in closed(server, encode(message))[0].reason


# A task's way


def test_a_task_is_sent_and_answered():
    client, server = with_plan()
    assert talk(client, server, client.tensor(FIRST)) == ([], [FIRST])
    assert not server.waits(7)
    assert talk(client, server, client.tensor(SECOND)) == ([], [SECOND])
    assert server.waits(7)
    assert client.unanswered == (7,)
    assert talk(client, server, to_client=server.answer(ANSWER)) == ([ANSWER], [])
    assert client.unanswered == ()
    assert not server.waits(7)
    assert server.answer(ANSWER) == b""  # at most once


def test_events_come_in_order_from_one_piece_and_from_many():
    client, server = with_plan()
    data = client.tensor(FIRST) + client.tensor(SECOND) + client.ping(2.5) + client.cancel(7)
    assert server.receive(data) == [FIRST, SECOND, Ping(2.5), Cancel(7)]
    client, server = with_plan()
    data = client.tensor(FIRST) + client.tensor(SECOND) + client.bye()
    pieces = [server.receive(data[k : k + 1]) for k in range(len(data))]
    assert sum(pieces, []) == [FIRST, SECOND, Closed("the peer said BYE")]  # noqa: RUF017


def test_what_came_before_an_error_is_not_lost():
    _, server = with_plan()
    first, send, last = server.receive(encode(FIRST) + encode(FIRST))
    assert first == FIRST
    assert "tensor 0 of task 7 comes twice" in last.reason
    assert decoded(send.data) == [Refused(last.reason)]


WRONG_ORDER = [
    ([replace(FIRST, plan=4)], "plan 4, which is not registered"),
    ([SECOND], "tensor 1 of 2 of task 7, 'left', is not the next one of its plan"),
    ([FIRST, FIRST], "tensor 0 of task 7 comes twice"),
    ([FIRST, SECOND, SECOND], "tensor 1 of task 7 comes twice"),
    ([FIRST, SECOND, replace(SECOND, part=2, parts=3)], "has 2: 2 have come"),
    ([replace(FIRST, parts=3)], "tensor 0 of 3"),
    ([replace(FIRST, layer="left")], "'left', is not the next"),
    ([FIRST, SECOND, Cancel(7), FIRST], "task 7 was begun before"),
    ([FIRST, replace(FIRST, task=6)], "task 6 was begun before, or skipped"),
    ([Cancel(0)], "task 0 is cancelled, which was never begun"),
    ([replace(PLAN, plan=3)], "plan 3 was offered before"),
    ([replace(PLAN, plan=4)] * 2, "plan 4 was offered before"),
    ([replace(PLAN, plan=4), replace(FIRST, plan=4)], "plan 4, which is not registered"),
    ([Pong(0.0, 0.0, 0.0)], "PONG answers the oldest PING"),
]


@pytest.mark.parametrize(("messages", "words"), WRONG_ORDER)
def test_the_cloud_refuses_what_breaks_the_order(messages, words):
    _, server = with_plan()
    assert words in closed(server, b"".join(map(encode, messages)))[0].reason


def test_a_task_keeps_its_plan():
    client, server = with_plan()
    talk(client, server, client.register(replace(PLAN, plan=4)))
    server.accept_plan(4)
    server.receive(encode(FIRST))
    last, _ = closed(server, encode(replace(SECOND, plan=4)))
    assert "task 7 changes its plan" in last.reason


def test_an_answered_task_does_not_come_again():
    client, server = with_plan()
    server.receive(client.tensor(FIRST) + client.tensor(SECOND))
    server.answer(ANSWER)
    assert "task 7 was begun before" in closed(server, encode(FIRST))[0].reason


def test_the_end_does_not_send_what_the_cloud_refuses():
    client, _ = with_plan()
    for messages, words in WRONG_ORDER:
        if all(isinstance(message, Tensor) for message in messages):
            client, _ = with_plan()
            for message in messages[:-1]:
                client.tensor(message)
            with pytest.raises(WireError, match=words):
                client.tensor(messages[-1])
    with pytest.raises(WireError, match="plan 3 was offered before"):
        client.register(PLAN)


def test_a_plan_may_be_used_once_it_is_accepted_and_not_if_it_is_refused():
    client, server = opened()
    talk(client, server, client.register(PLAN))
    with pytest.raises(WireError, match="plan 3, which is not registered"):
        client.tensor(FIRST)
    refusal = server.refuse_plan(3, "layer 'left' is not in this model\x07")
    ends, _ = talk(client, server, to_client=refusal)
    assert ends == [PlanRefused(3, "layer 'left' is not in this model?")]
    with pytest.raises(WireError, match="plan 3, which is not registered"):
        client.tensor(FIRST)
    assert talk(client, server, client.register(PLAN)) == ([], [PLAN])


def test_plans_and_open_tasks_are_bounded():
    client, server = with_plan(limits=Limits(plans=1, open_tasks=1))
    ends, clouds = talk(client, server, client.register(replace(PLAN, plan=4)))
    assert ends == [PlanRefused(4, "a connection registers at most 1 plans")]
    assert clouds == []
    server.receive(client.tensor(FIRST))
    with pytest.raises(WireError, match="at most 1 tasks wait"):
        client.tensor(replace(FIRST, task=8))
    last, _ = closed(server, encode(replace(FIRST, task=8)))
    assert "at most 1 tasks wait" in last.reason


def test_a_cancelled_task_is_not_answered():
    client, server = with_plan()
    server.receive(client.tensor(FIRST) + client.tensor(SECOND))
    assert server.receive(client.cancel(7)) == [Cancel(7)]
    assert not server.waits(7)
    assert server.answer(ANSWER) == b""
    assert client.unanswered == ()
    assert client.cancel(7) == b""  # there is nothing left to cancel
    with pytest.raises(WireError, match="task 7 was begun before"):
        client.tensor(FIRST)


def test_an_answer_and_a_cancellation_may_cross():
    client, server = with_plan()
    server.receive(client.tensor(FIRST) + client.tensor(SECOND))
    answer, cancel = server.answer(ANSWER), client.cancel(7)
    assert server.receive(cancel) == []
    assert client.receive(answer) == []
    assert "task 7 is answered, which does not wait" in closed(client, answer)[0].reason


def test_what_is_kept_of_cancelled_tasks_is_bounded():
    client, _ = with_plan()
    for number in range(MAX_CANCELLED + 1):
        for tensor in (FIRST, SECOND):
            client.tensor(replace(tensor, task=number))
        client.cancel(number)
    assert client.receive(encode(replace(ANSWER, task=1))) == []
    assert "does not wait" in closed(client, encode(replace(ANSWER, task=0)))[0].reason


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (replace(ANSWER, task=8), "task 8 is answered, which does not wait"),
        (replace(ANSWER, exit="stem"), "task 7 left at 'stem', no exit of its plan"),
        (PlanOk(3), "plan 3, which was not offered"),
        (PlanRefused(5, "no"), "plan 5, which was not offered"),
    ],
)
def test_the_end_refuses_answers_to_what_it_did_not_ask(answer, words):
    client, _ = with_plan()
    client.tensor(FIRST)
    client.tensor(SECOND)
    assert words in closed(client, encode(answer))[0].reason
    assert client.unanswered == (7,)


def test_a_task_of_which_only_a_part_came_is_not_answered():
    client, server = with_plan()
    server.receive(client.tensor(FIRST))
    assert server.answer(ANSWER) == b""
    assert "does not wait" in closed(client, encode(ANSWER))[0].reason


def test_an_exit_of_the_plan_may_answer():
    client, server = with_plan()
    talk(client, server, client.tensor(FIRST) + client.tensor(SECOND))
    answer = replace(ANSWER, exit="add")
    assert talk(client, server, to_client=server.answer(answer)) == ([answer], [])


def test_clocks_are_compared_both_ways():
    client, server = opened()
    assert server.receive(client.ping(1.0)) == [Ping(1.0)]
    assert client.receive(server.pong(Ping(1.0), 50.5, 50.75)) == [Pong(1.0, 50.5, 50.75)]
    assert client.receive(server.ping(51.0)) == [Ping(51.0)]
    client.ping(2.0)
    assert "PONG answers the oldest" in closed(client, encode(Pong(3.0, 0.0, 0.0)))[0].reason


def test_a_peer_that_answers_no_ping_is_noticed():
    client, _ = opened()
    for k in range(MAX_PINGS):
        client.ping(float(k))
    with pytest.raises(WireError, match="not answered the last 16 pings"):
        client.ping(99.0)


# The end of a session


def test_bye_ends_a_session_with_nothing_wrong():
    client, server = with_plan()
    bye = server.bye()
    assert server.receive(client.tensor(FIRST)) == []  # was on its way
    assert client.receive(bye) == [Closed("the peer said BYE")]
    assert client.unanswered == (7,)
    with pytest.raises(WireError, match="session is over: the peer said BYE"):
        client.tensor(SECOND)
    with pytest.raises(WireError, match="session is over: this side said BYE"):
        server.bye()
    assert server.receive(b"") == []


def test_a_side_may_refuse_at_any_time():
    client, server = with_plan()
    refusal = server.refuse("the payload of task 7 is no tensor")
    (last,) = client.receive(refusal)
    assert last.reason == "the peer refuses: the payload of task 7 is no tensor"
    assert "task 7" in server.closed
    with pytest.raises(WireError, match="session is over"):
        client.receive(b"more")


def test_a_peer_that_hangs_up_is_told_nothing():
    client, server = with_plan()
    client.tensor(FIRST)
    (last,) = client.receive(b"")
    assert "hung up without BYE" in last.reason
    assert client.unanswered == (7,)
    assert server.receive(encode(FIRST)[:-1]) == []
    (last,) = server.receive(b"")
    assert "hung up within a frame" in last.reason


# Fuzzing


def open_server():
    """A server that a peer with the token has opened, by the same handshake each time."""
    server = ServerSession(MODEL, "cloud", bytes(32), Prover(None))
    server.receive(encode(Hello(PROTOCOL_VERSION, MODEL, "end", bytes(32))) + encode(Proof(b"")))
    server.receive(encode(PLAN))
    server.accept_plan(3)
    return server


def welcoming_server(model):
    """A server without a token that waits for the proof of an end with this model."""
    server = ServerSession(MODEL, "cloud", bytes(32), Prover(None))
    server.receive(encode(Hello(PROTOCOL_VERSION, model, "end", bytes(32))))
    return server


def open_client():
    client = ClientSession(MODEL, "end", bytes(32), Prover(None))
    client.receive(encode(Challenge(bytes(32), False)) + encode(Welcome("cloud", b"")))
    client.register(PLAN)
    client.receive(encode(PlanOk(3)))
    client.tensor(FIRST)
    client.tensor(SECOND)
    return client


def spoilt(rng, sound):
    """A frame with something wrong, with it or with its coming now."""
    data = bytearray(rng.choice(sound))
    match rng.randrange(7):
        case 0:
            return rng.randbytes(rng.randrange(1, 200))
        case 1:
            return bytes(data[: rng.randrange(1, len(data))])
        case 2:
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        case 3:  # sound but for what the lengths say
            at = rng.choice([6, 10])
            data[at : at + 4] = rng.randbytes(4)
        case 4:  # a sound frame of a spoilt header
            header, payload = struct.unpack(">II", data[6:14])
            spoilt_header = bytearray(data[14 : 14 + header])
            if spoilt_header:
                spoilt_header[rng.randrange(header)] = rng.randrange(256)
            body = bytes(data[14 + header : 14 + header + payload])
            return frame(data[5], bytes(spoilt_header), body)
        case 5:
            return frame(rng.randrange(256), rng.randbytes(rng.randrange(40)), b"")
    return bytes(data)  # in the last case a sound one, which may come at a wrong time or twice


def fuzz(frames, seed):
    """Give spoilt frames to sessions, to each until it closes, or hang up on it: the reasons."""
    rng = random.Random(seed)
    sound = [*map(encode, EVERY), changed(EVERY[0], protocol=2), encode(Proof(b""))]
    starts = (
        open_server,
        open_client,
        lambda: sessions()[0],
        lambda: sessions()[1],
        lambda: sessions(client_token=None)[0],
        lambda: welcoming_server("vgg16-aa"),
    )
    reasons = set()
    while frames > 0:
        session = rng.choice(starts)()
        data = b""
        for left in reversed(range(rng.randrange(1, 9))):
            frames -= left > 0
            replayed = data and rng.randrange(8) == 0
            data = (data if replayed else spoilt(rng, sound)) if left else b""
            for event in session.receive(data):
                if isinstance(event, Send):
                    decoded(event.data)
                elif isinstance(event, Closed):
                    reasons.add(event.reason)
            if session.closed:
                break
        assert session.closed
    return reasons


RULES = (
    "begins with",
    "frames are of version",
    "there is no kind",
    "header of a HELLO has at most",
    "payload of a TENSOR has at most",
    "payload of a PING has at most",
    "hung up within a frame",
    "hung up without BYE",
    "CRC of a TENSOR",
    "no msgpack that is taken",
    "a map of its fields",
    "a PLAN is wrong",
    "a HELLO is wrong",
    "version 2 of the protocol",
    "HELLO is out of order",
    "TENSOR is out of order",
    "does not prove that it has the cloud's token",
    "end's model is vgg16-aa",
    "asks for a token",
    "comes twice",
    "plan 3 was offered before",
    "PONG answers",
    "the peer refuses",
    "the peer said BYE",
)


@pytest.mark.parametrize("frames", [12_000, pytest.param(100_000, marks=pytest.mark.slow)])
def test_spoilt_frames_close_sessions_and_nothing_else(frames: int):
    reasons = fuzz(frames, seed=1)
    assert [rule for rule in RULES if not any(rule in reason for reason in reasons)] == []


def test_spoilt_frames_leave_no_memory_behind():
    fuzz(500, seed=2)
    tracemalloc.start()
    try:
        fuzz(1500, seed=3)
        left, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert left < 20_000
    assert peak < 2_000_000


@settings(max_examples=50)
@given(st.data())
def test_messages_in_any_order_close_a_session_or_are_taken(data):
    for session in (open_server(), open_client()):
        while not session.closed:
            message = data.draw(any_message | st.sampled_from(EVERY))
            events = session.receive(encode(message))
            assert not session.closed or isinstance(events[-1], Closed)
            if len(events) == 0 and data.draw(st.booleans()):
                break
