"""Which failpoint is tried where, and which modules reach out of their process without one.

`python -m tools.check_failpoints` holds these tables to the sources; CONTRIBUTING.md says how they grow.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Outside:
    """Why a module, or a folder of them, needs no failpoint; `test` shows what comes of it when what it reaches fails
    in production ("": nothing can)."""

    why: str
    test: str = ""


# What the lives of the crash matrix cross: test_crash_matrix.py holds each equal to its life.
JOB_LIFE = frozenset(
    {
        "broker.publish_all",
        "cluster.delete",
        "cluster.drain",
        "cluster.launch",
        "cluster.observe",
        "database.pooled_connection.begin",
        "database.pooled_connection.commit",
        "database.transaction.begin",
        "database.transaction.commit",
        "objects.get_bytes",
        "objects.list",
        "objects.open",
    }
)
NOTICES_LIFE = frozenset(
    {
        "broker.publish_all",
        "cloud.after",
        "database.pooled_connection.begin",
        "database.pooled_connection.commit",
        "database.transaction.begin",
        "database.transaction.commit",
        "queue.delete",
        "queue.receive",
    }
)
CROSSED = JOB_LIFE | NOTICES_LIFE

# What no life crosses: the test that arms it, with everything that can go wrong there.
TRIED: Mapping[str, tuple[str, ...]] = {
    "tests/chassis/test_bus_points.py::test_a_poison_record_is_set_aside_whatever_goes_wrong": ("broker.set_aside",),
    "tests/chassis/test_database_points.py::test_a_relay_that_gets_no_connection_waits_and_loses_nothing": (
        "database.own_connection",
    ),
    "tests/chassis/test_database_points.py::test_a_database_that_does_not_answer_is_told_by_readiness": (
        "database.ping",
    ),
    "tests/monitor/test_otlp.py::test_figures_are_told_whole_or_refused": (
        "database.snapshot.begin",
        "database.snapshot.commit",
    ),
    "tests/scheduler/test_logs.py::test_a_cluster_that_does_not_tell_a_log_is_told_so": ("cluster.log",),
    "tests/trainer/test_checkpoint_points.py::test_a_commit_is_whole_or_not_there": (
        "objects.put_bytes",
        "objects.put_file",
    ),
    "tests/trainer/test_checkpoint_points.py::test_retention_leaves_what_is_needed": ("objects.delete",),
    "tests/trainer/test_checkpoint_points.py::test_a_resume_reads_whole_or_raises": ("objects.fetch",),
    "tests/inference/test_loops.py::test_weights_that_do_not_come_are_waited_for": ("objects.download",),
    "tests/gateway/test_upload_points.py::test_a_table_is_read_whole_or_again": ("objects.get_range", "objects.size"),
    "tests/gateway/test_upload_points.py::test_a_model_is_stored_before_it_is_there": ("objects.put_stream",),
    "tests/gateway/test_upload_points.py::test_an_upload_in_parts_ends_whatever_goes_wrong": (
        "multipart.abort",
        "multipart.begin",
        "multipart.complete",
        "multipart.parts",
        "multipart.put",
    ),
    "tests/monitor/test_notices.py::test_messages_are_told_once_whoever_cannot_hold_them": ("queue.hold",),
    "tests/optimizer/test_points.py::test_a_question_that_fails_in_one_region_leaves_the_others": (
        "prices.machine_types",
        "prices.on_demand_prices",
        "prices.placement_scores",
        "prices.spot_prices",
    ),
    "tests/optimizer/test_points.py::test_a_cloud_that_tells_no_prices_is_asked_again": ("cloud.prices",),
}

# Modules that reach out of their process and have no failpoint; a folder ends with a slash.
OUTSIDE: Mapping[str, Outside] = {
    "services/gateway/api/chat.py": Outside(
        "passes on what `onward.py` asks of inference, by that library's errors",
        "tests/gateway/test_proxies.py::test_a_restart_of_inference_is_waited_for",
    ),
    "services/gateway/api/feedback.py": Outside(
        "one short question to inference, told as 503 if nothing answers",
        "tests/gateway/test_rollouts.py::test_feedback_needs_inference",
    ),
    "services/gateway/api/inside.py": Outside(
        "one question to the monitor or the scheduler, told as 503 if nothing answers",
        "tests/gateway/test_overview.py::test_without_the_monitor_the_rest_is_told",
    ),
    "services/gateway/api/monitor.py": Outside(
        "passes on what `inside.py` asks",
        "tests/gateway/test_overview.py::test_without_the_monitor_the_rest_is_told",
    ),
    "services/gateway/api/world.py": Outside("names the type of the client that it holds"),
    "services/gateway/hub.py": Outside(
        "only listens: a connection that breaks is made anew, and all who wait look for themselves",
        "tests/gateway/test_feeds.py::test_a_stream_goes_on_when_the_connection_that_listens_was_lost",
    ),
    "services/gateway/main.py": Outside("makes the client that `inside.py` asks by"),
    "services/gateway/oidc.py": Outside(
        "the identity provider: without it one signs in with a key",
        "tests/gateway/test_oidc.py::test_without_the_provider_one_signs_in_with_a_key",
    ),
    "services/gateway/onward.py": Outside(
        "requests of users to inference: nothing of ours depends on their end",
        "tests/gateway/test_proxies.py::test_an_absent_inference_is_an_error_in_openais_shape",
    ),
    "services/gateway/webhook_loop.py": Outside(
        "receivers of users, who may fail in any way: each delivery is tried again under its id",
        "tests/gateway/test_webhooks.py::test_what_fails_is_tried_again_later_with_the_same_id",
    ),
    "services/inference/remote_engine.py": Outside(
        "replicas, which are killed and frozen for real",
        "tests/inference/test_replicas.py::test_a_replica_killed_in_mid_answer_changes_nothing",
    ),
    "services/inference/replica/__main__.py": Outside(
        "binds the port of the replica: a taken one ends it, and it is started again",
        "tests/inference/test_replicating.py::test_what_exits_is_started_again_with_pauses_until_it_makes_no_sense",
    ),
    "services/inference/replica/home.py": Outside(
        "reports that are repeated: one that is not heard stops no answer",
        "tests/inference/test_replica_home.py::test_a_service_that_is_away_is_told_again_and_one_that_refuses_is_left",
    ),
    "services/inference/replica/vllm_engine.py": Outside(
        "vLLM's server, a child of this process",
        "tests/inference/test_vllm.py::test_a_replica_whose_vllm_dies_says_so_and_ends",
    ),
    "services/inference/replica/vllm_process.py": Outside(
        "starts vLLM's server, a child of this process",
        "tests/inference/test_vllm.py::test_a_replica_whose_vllm_dies_says_so_and_ends",
    ),
    "services/optimizer/computer.py": Outside(
        "measures in a process of its own, and keeps nothing of one that failed",
        "tests/optimizer/test_points.py::test_a_measurement_that_fails_is_made_again",
    ),
    "services/optimizer/profiler.py": Outside(
        "a worker process, replaced when it dies or hangs",
        "tests/optimizer/test_profile.py::test_a_dead_worker_is_told_and_replaced",
    ),
    "services/scheduler/recovering.py": Outside(
        "an operator's program, run again if it fails",
        "tests/deploy/test_recovery.py::test_numbers_go_on_above_every_fence_and_later_jobs_are_said_lost",
    ),
    "services/trainer/agent.py": Outside(
        "workers of one attempt, which are killed for real",
        "tests/trainer/test_gang.py::test_a_machine_lost_in_the_middle_does_not_end_the_run",
    ),
    "services/trainer/sharding.py": Outside(
        "workers of one attempt, which end together",
        "tests/trainer/test_gang.py::test_a_model_in_parts_is_saved_by_all_and_read_by_any_number",
    ),
    "services/trainer/tracking.py": Outside(
        "figures for MLflow: a server that is away stops nothing",
        "tests/trainer/test_mlflow.py::test_a_server_that_is_away_changes_nothing",
    ),
    "services/trainer/usersource.py": Outside(
        "installs packages and tries a step, each in a process: how it ends is the attempt's end",
        "tests/trainer/test_usercode.py::"
        "test_a_package_is_installed_for_the_model_alone_and_an_absent_one_names_its_line",
    ),
    "services/trainer/workers.py": Outside(
        "workers of one attempt, which end together",
        "tests/trainer/test_gang.py::test_two_workers_equal_one_and_a_killed_one_is_started_again",
    ),
    "services/trainer/writer.py": Outside(
        "the process that writes checkpoints, which is killed for real",
        "tests/trainer/test_writer.py::test_a_writer_that_dies_is_replaced_and_its_save_made_again",
    ),
    "sskai/broker_admin.py": Outside(
        "what operators and the start ask of the broker: it raises, and is asked again",
        "tests/doctor/test_broker.py::test_a_broker_that_does_not_answer_is_one_finding_within_its_time",
    ),
    "sskai/broker_log.py": Outside(
        "reads the whole log for `sskai rebuild`: silence is an error, and nothing was changed",
        "tests/rebuilding/test_command.py::test_a_log_is_read_in_order_to_its_end_and_says_what_it_lacks",
    ),
    "sskai/rebuilding/": Outside(
        "an operator's command: it compares in a database of its own, and puts all in place or nothing",
        "tests/rebuilding/test_command.py::test_nothing_is_applied_where_the_log_lacks_what_was_handled",
    ),
    "sskai/cli/": Outside(
        "programs of a person, who is told what does not answer",
        "tests/gateway/test_cli.py::test_who_is_not_known_or_not_reached_ends_with_three",
    ),
    "sskai/client/": Outside(
        "the client's side of the gateway, which repeats under the same key",
        "tests/chassis/test_client.py::test_a_restart_of_the_gateway_goes_unnoticed_and_makes_nothing_twice",
    ),
    "sskai/cluster/kubernetes_watch.py": Outside(
        "what `KubernetesCluster.observe` is answered from, watched from a task of its own",
        "tests/scheduler/test_kubernetes_cluster.py::test_a_watch_that_was_cut_goes_on_where_it_was",
    ),
    "sskai/delivery.py": Outside(
        "names the type of the connections that `Database` gives, whose points they have",
        "tests/chassis/test_database_points.py::test_a_relay_that_gets_no_connection_waits_and_loses_nothing",
    ),
    "sskai/doctor/": Outside(
        "asks every part once, and tells which does not answer",
        "tests/doctor/test_services.py::test_a_part_that_hangs_or_breaks_is_a_finding_and_the_others_are_looked_at",
    ),
    "sskai/local/": Outside(
        "the stack of one computer, whose parts are processes that are started again",
        "tests/local/test_stack.py::test_a_part_that_cannot_start_fails_the_whole_start_with_its_reason",
    ),
    "sskai/sandbox.py": Outside(
        "programs of users in processes with walls, ended with their time",
        "tests/chassis/test_sandbox.py::test_what_has_no_end_is_ended",
    ),
    "sskai/telemetry.py": Outside(
        "spans that are not taken in time are dropped, by a thread of their own",
        "tests/chassis/test_telemetry.py::test_a_collector_that_is_away_holds_nothing_up",
    ),
    "sskai/testing.py": Outside("makes the databases of tests"),
}
