"""The queue and the batches as a state machine: any order of events, on a real server, against a plain model.

After every step, Redis must hold exactly what the model holds. A separate ledger, made only from the answers, must
agree with the number of jobs, and the counts of each batch must add up. At the end of every run one worker does all
remaining work: then nothing is left, and each batch has completed once. The runs come from a fixed seed, so a failure
can be repeated anywhere.
"""

from __future__ import annotations

import json

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from errors import RetryableError
from jobs import dead_letters
from jobs.job_queue import FAILED, UNPACK, ClipRef, JobQueue, WorkerName
from jobs.queue_snapshot import standing_jobs
from tests.reliability.queue_model import read_content
from tests.reliability.queue_world import (
    BY_HAND,
    CLIPS,
    SCRATCH,
    TRANSCRIBE,
    WORKERS,
    Held,
    QueueWorld,
    batch_of,
    queues_of,
    unpack_job,
)

RUNS, STEPS = 150, 50  # of `make reliability`
FEW_RUNS, FEW_STEPS = 25, 30  # of `make test`
BATCHES = ("b1", "b2")
WORKER = st.sampled_from(WORKERS)
NUMBER = st.integers(0, 30)  # picks from whatever there is, modulo its length


class QueueMachine(QueueWorld, RuleBasedStateMachine):
    def __init__(self) -> None:
        RuleBasedStateMachine.__init__(self)
        QueueWorld.__init__(self)

    # Jobs arrive.

    @initialize()
    def one_batch_is_under_way_and_one_archive_waits(self) -> None:
        for batch_id in BATCHES:
            self.push(UNPACK, unpack_job(batch_id).to_json())
        self.a_worker_claims(0, heard=True)
        self.a_job_goes_well(0, {CLIPS[0]})

    @rule(kind=st.sampled_from(["archive", "by hand", "twice", "twice"]), pick=NUMBER, urgent=st.booleans())
    def a_job_arrives(self, kind: str, pick: int, urgent: bool) -> None:
        if kind == "archive":
            self.push(UNPACK, unpack_job(BATCHES[pick % 2]).to_json(), urgent=urgent)
        elif kind == "by hand":
            self.push([UNPACK, TRANSCRIBE][pick % 2], BY_HAND[pick % 3], urgent=urgent)
        elif self.held:
            claim = self.held[pick % len(self.held)].claim
            self.push(claim.queue, claim.payload, urgent=urgent)

    # Workers take jobs and let go of them.

    @rule(number=WORKER, heard=st.sampled_from([True, True, True, False]))
    def a_worker_claims(self, number: int, heard: bool) -> None:
        queue = self.fleet[number]
        self.return_unheard(queue)
        claim = queue.claim(queues_of(queue))
        expected = self.model.claim(queue.worker, queues_of(queue))
        assert (claim and (claim.queue, claim.payload, claim.failures, claim.interruptions)) == expected
        if claim and heard:
            self.held.append(Held(queue, claim))
        elif claim:  # the server did it, and the answer was lost on its way
            queue.forget(claim)
            queue._uncertain = True

    @rule(number=WORKER)
    def a_claim_of_a_payload_that_is_not_there_takes_nothing(self, number: int) -> None:
        queue = self.fleet[number]
        self.return_unheard(queue)
        assert queue.claim(queues_of(queue), only=b"another") is None

    @precondition(lambda self: self.held)
    @rule(pick=NUMBER, broken=st.sets(st.sampled_from(CLIPS), max_size=1))
    def a_job_goes_well(self, pick: int, broken: set[str]) -> None:
        held = self.take(pick)
        about = self.about.get(held.claim.payload)
        if isinstance(about, str) and held.claim.queue == UNPACK:
            self.begin(held, self.unpacked(held, about, broken))
            return
        if isinstance(about, ClipRef):
            self.results.add(about)  # committed before the acknowledgement, whatever that will say
        self.settle(held, None)

    @rule(number=WORKER)
    def a_worker_does_its_next_job(self, number: int) -> None:
        before = len(self.held)
        self.a_worker_claims(number, heard=True)
        if len(self.held) > before:
            self.a_job_goes_well(before, set())

    @precondition(lambda self: self.held)
    @rule(pick=NUMBER, parked=st.booleans())
    def a_job_is_given_up(self, pick: int, parked: bool) -> None:
        held = self.take(pick)
        clip = self.clip_of(held)
        key = f"failed/{clip.batch_id}/{clip.clip}" if clip and parked else None
        error = RetryableError(f"no luck with job {self.jobs}")
        self.settle(held, dead_letters.write(held.claim, error, worker=held.queue.worker, clip=clip, parked=key))

    @precondition(lambda self: self.held)
    @rule(pick=NUMBER, how=st.sampled_from(["failed", "put off", "handed back"]))
    def a_job_is_let_go(self, pick: int, how: str) -> None:
        self.let_go(self.take(pick), how)

    @precondition(lambda self: self.spent)
    @rule(pick=NUMBER, how=st.sampled_from(["settled", "failed", "handed back"]))
    def a_worker_acts_on_a_job_that_it_has_let_go_of(self, pick: int, how: str) -> None:
        held = self.spent[pick % len(self.spent)]
        if how == "settled":
            self.settle(held, None)
        else:
            self.let_go(held, how)

    @rule(number=WORKER)
    def a_worker_hands_back_all_it_has(self, number: int) -> None:
        queue = self.fleet[number]
        mine = [held for held in self.held if held.queue is queue]
        self.held = [held for held in self.held if held.queue is not queue]
        self.spent += mine
        # The last claim first: each job goes to the head of its queue, so that all of them keep their order.
        back = [self.model.hand_back(queue.worker, held.claim.queue, held.claim.payload) for held in reversed(mine)]
        assert queue.hand_back_all() == sum(back)

    @precondition(lambda self: self.last_start)
    @rule()
    def a_batch_is_begun_once_more_by_the_same_run(self) -> None:
        """The answer to the first start was lost."""
        assert self.last_start
        self.begin(*self.last_start)

    # Time passes and workers die.

    @rule(number=WORKER, over=st.booleans())
    def what_is_due_is_promoted(self, number: int, over: bool) -> None:
        if over:
            self.let_every_delay_be_over()
        assert self.fleet[number].promote_due() == self.model.promote()

    @rule(number=WORKER, beats=st.booleans())
    def a_heartbeat_expires_or_comes_again(self, number: int, beats: bool) -> None:
        """The worker may be alive, paused or cut off. Later it acts on the jobs that it holds."""
        if beats:
            self.beat(self.fleet[number].worker)
        else:
            self.expire(self.fleet[number].worker)

    @rule(number=WORKER, other=WORKER)
    def a_paused_worker_is_overtaken_and_wakes(self, number: int, other: int) -> None:
        self.expire(self.fleet[number].worker)
        self.reap(self.fleet[other])
        self.beat(self.fleet[number].worker)

    @rule(number=WORKER)
    def a_worker_is_killed_and_another_takes_its_place(self, number: int) -> None:
        self.expire(self.fleet[number].worker)
        self.held = [held for held in self.held if held.queue is not self.fleet[number]]
        self.fleet[number] = self.new_worker(number)

    @rule(number=WORKER)
    def dead_workers_jobs_are_returned(self, number: int) -> None:
        self.reap(self.fleet[number])

    # Batches end, or begin anew.

    @rule(batch_id=st.sampled_from(BATCHES))
    def a_finished_batch_is_cleared(self, batch_id: str) -> None:
        assert self.batches.clear(batch_id) == self.model.clear(batch_id)

    @rule(batch_id=st.sampled_from(BATCHES))
    def a_batch_is_restarted(self, batch_id: str) -> None:
        """As after the loss of its host, or by an operator. Jobs in flight are removed, too."""
        about = {payload: batch_of(whose) for payload, whose in self.about.items()} | {BY_HAND[2]: "b1"}
        removed = self.model.restart(batch_id, unpack_job(batch_id).to_json(), about)
        assert self.batches.restart(unpack_job(batch_id), SCRATCH) == removed
        self.jobs += 1 - removed

    # Dead letters.

    @precondition(lambda self: self.model.lists[FAILED])
    @rule(pick=NUMBER)
    def a_dead_letter_is_brought_back_once(self, pick: int) -> None:
        raw = self.model.lists[FAILED][pick % len(self.model.lists[FAILED])]
        twins = self.model.lists[FAILED].count(raw)
        letter = self.letters.parse(raw)
        assert self.letters.retry(letter)
        self.model.lists[FAILED].remove(raw)
        whole = not (letter.parked_s3_key and letter.counted)
        queue = letter.queue if whole else TRANSCRIBE
        payload = self.client.lindex(queue, -1)
        assert isinstance(payload, bytes)
        if whole:
            assert payload == letter.payload
        else:
            fields = json.loads(payload)
            clip = ClipRef(fields["batch_id"], fields["original_filename"])
            assert clip == letter.counted
            assert fields["opus_s3_key"] == letter.parked_s3_key
            self.about[payload] = clip
        self.model.lists[queue].append(payload)
        if letter.counted:
            self.model.reopen(letter.counted.batch_id, letter.counted.clip)
        self.jobs, self.dead = self.jobs + 1, self.dead - 1
        if twins == 1:
            assert not self.letters.retry(letter)

    @precondition(lambda self: self.model.lists[FAILED])
    @rule(pick=NUMBER)
    def a_dead_letter_is_dropped(self, pick: int) -> None:
        raw = self.model.lists[FAILED][pick % len(self.model.lists[FAILED])]
        assert self.letters.drop(self.letters.parse(raw))
        self.model.lists[FAILED].remove(raw)
        self.dead -= 1

    # What must hold after each of them.

    @invariant()
    def redis_agrees_with_the_model_and_the_ledger_and_every_batch_adds_up(self) -> None:
        content = read_content(self.client)
        assert content == self.model.content()
        assert len(standing_jobs(self.client, SCRATCH)) == self.jobs
        assert self.client.llen(FAILED) == self.dead
        for batch_id in BATCHES:
            if f"batch:{batch_id}:total" not in content:
                continue
            names = (f"batch:{batch_id}:{what}" for what in ("total", "processed", "failed"))
            total, processed, failed = (int(bytes.decode(content[name])) for name in names)
            pending = self.batches.pending(batch_id)
            assert processed + failed + len(pending) == total
            assert min(processed, failed) >= 0
            assert (batch_id in self.batches.finishing()) == (not pending)

    def teardown(self) -> None:
        """One worker does all remaining work: then nothing is left, and every batch has completed once."""
        for queue in self.fleet:
            self.expire(queue.worker)
        last = JobQueue(self.client, WorkerName("host-1", 9, "last"))
        self.beat(last.worker)
        self.reap(last)
        self.let_every_delay_be_over()
        last.promote_due()
        self.model.promote()
        queues = [UNPACK, TRANSCRIBE, f"{TRANSCRIBE}:host-1", f"{TRANSCRIBE}:host-2"]
        while claim := last.claim(queues):
            self.model.claim(last.worker, queues)
            self.held = [Held(last, claim)]
            self.a_job_goes_well(0, set())
        for batch_id in BATCHES:
            self.a_finished_batch_is_cleared(batch_id)
        self.redis_agrees_with_the_model_and_the_ledger_and_every_batch_adds_up()
        assert set(read_content(self.client)) <= {FAILED, last.worker.heartbeat_key}
        assert self.jobs == 0
        super().teardown()


@pytest.mark.parametrize(
    ("runs", "steps"),
    [
        pytest.param(FEW_RUNS, FEW_STEPS, id="few"),
        pytest.param(RUNS, STEPS, id="many", marks=pytest.mark.thorough),
    ],
)
def test_in_any_order_of_events_no_job_is_lost_and_every_batch_completes_once(redis_db, runs, steps):
    class OnThisServer(QueueMachine):
        client = redis_db

    profile = settings(derandomize=True, max_examples=runs, stateful_step_count=steps, deadline=None, database=None)
    run_state_machine_as_test(OnThisServer, settings=profile)
