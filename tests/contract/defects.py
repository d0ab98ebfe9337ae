"""The 54 defects of the earlier library: for each, the tests that fail where it returns, or the decision why it stays.

Tests are named by their path below the library's tests; ``here::`` stands for `test_defects`, ``adr/`` for a decision record.
``pytest libs -k defect_23`` runs those of a number: the conftest of the workspace gives them that name, too.
"""

from collections.abc import Iterator

__all__ = ["EVIDENCE", "TESTS", "names_of_tests", "tests_of"]

TESTS = "libs/huleedu_service_libs/tests/"
HERE = "tests/contract/test_defects.py"

STAYS = "adr/0030-what-stays-as-it-was.md"
EVIDENCE: dict[int, tuple[str, ...]] = {
    # Idempotency
    1: ("idempotency/test_defects.py::test_defect_01_a_failing_handler_runs_once",),
    2: ("idempotency/test_defects.py::test_defect_02_an_event_of_a_worker_that_dies_is_not_lost",),
    3: (
        "idempotency/test_defects.py::test_defect_03_a_long_handler_is_not_overtaken",
        "idempotency/test_defects.py::test_defect_03_a_late_worker_changes_nobody_elses_claim",
        "idempotency/test_redis.py::test_foreign_claim_is_left_alone",
    ),
    4: ("idempotency/test_defects.py::test_defect_04_header_path_and_body_path_keep_their_keys", STAYS),
    5: (
        "idempotency/test_defects.py::test_defect_05_an_odd_stored_value_skips",
        "idempotency/test_defects.py::test_defect_05_a_null_event_type_is_protected",
    ),
    6: (
        "idempotency/test_defects.py::test_defect_06_programming_errors_surface",
        "idempotency/test_defects.py::test_defect_06_one_round_trip_and_the_true_start",
        STAYS,
    ),
    7: ("idempotency/test_defects.py::test_defect_07_an_unconfirmed_event_need_not_be_dropped",),
    # Outbox
    8: (
        "outbox/test_wire.py::test_the_envelope_keeps_its_identity",
        "path/test_relay.py::test_stable_identity_over_attempts",
    ),
    9: ("outbox/test_wire.py::test_standard_headers_are_complete_and_the_caller_wins",),
    10: (
        "outbox/test_relay.py::test_parked_events_do_not_starve_the_others",
        "conformance/test_batch_store.py::test_an_exhausted_event_is_never_handed_out",
    ),
    11: (
        "outbox/test_relay.py::test_an_outage_parks_nothing",
        "outbox/test_schedule.py::test_delays_double_up_to_the_limit",
    ),
    12: ("outbox/test_postgresql.py::test_relays_share_the_keys_and_take_over_from_each_other",),
    13: (
        "outbox/test_pipeline.py::test_keys_keep_their_order_whatever_fails",
        "outbox/test_relay.py::test_poison_in_the_middle_of_a_batch_holds_back_its_own_key_only",
    ),
    14: ("outbox/test_wake_up_after_commit.py::test_the_relay_is_woken_after_the_commit",),
    15: (
        "outbox/test_manager.py::test_a_wake_list_that_nobody_reads_does_not_grow_for_ever",
        "outbox/test_wakeup.py::test_one_look_takes_all_tokens",
    ),
    16: ("redis/test_connections.py::test_blpop_waits_longer_than_the_socket_timeout",),
    17: ("outbox/test_metrics.py::test_what_a_relay_has_done_is_what_its_metrics_say",),
    18: (
        "outbox/test_relay.py::test_publish_is_called_with_keywords_of_the_row",
        "outbox/test_manager.py::test_resolve_partition_key",
        STAYS,
    ),
    19: ("outbox/test_di.py::test_settings_of_ones_own",),
    20: ("here::test_settings_of_the_outbox_print_nothing", STAYS),
    21: (
        "outbox/test_relay.py::test_stop_finishes_the_batch_in_flight",
        "outbox/test_pipeline.py::test_a_storage_that_fails_in_the_middle_loses_and_reorders_nothing",
    ),
    22: ("outbox/test_purge.py::test_what_was_published_before_the_retention_goes",),
    # Kafka
    23: (
        "kafka/test_resilient_publisher.py::test_confirmed_publishing_never_queues",
        "kafka/test_resilient_publisher.py::test_the_relay_gets_true_acknowledgements",
    ),
    24: (
        "kafka/test_resilient_publisher.py::test_queued_messages_are_sent_when_the_broker_is_back_though_nobody_publishes",
    ),
    25: (
        "kafka/test_resilient_publisher.py::test_stop_reports_by_name_what_it_could_not_send",
        "kafka/test_resilient_publisher.py::test_start_and_stop_may_follow_each_other",
        "kafka/test_resilient_publisher.py::test_a_new_message_waits_behind_its_key",
    ),
    26: (
        "kafka/test_lifecycle.py::test_concurrent_starts_share_one",
        "kafka/test_publish.py::test_dead_letters_through_the_producer",
        "kafka/test_publish.py::test_too_large_events_are_refused_with_their_size",
        "kafka/test_lifecycle.py::test_start_against_a_mute_server_is_bounded",
        STAYS,
    ),
    # Redis
    27: (
        "redis/test_lifecycle.py::test_start_and_stop_are_idempotent_and_repeatable",
        "here::test_a_redis_client_that_never_started_leaves_nothing",
        STAYS,
    ),
    28: (
        "redis/test_lifecycle.py::test_start_against_a_dead_port_fails_soon_and_keeps_the_password",
        "redis/test_access.py::test_no_secret_is_in_a_repr",
    ),
    29: ("redis/test_pubsub.py::test_notifications_carry_what_events_carry",),
    30: (
        "redis/test_transactions.py::test_scripts_survive_a_restart",
        "redis/test_transactions.py::test_forgotten_pipelines_give_their_connection_back",
        "redis/test_commands.py::test_scan_finds_each_key_once",
    ),
    31: ("redis/test_pubsub_survival.py::test_a_client_that_does_not_decode_gets_bytes", STAYS),
    # Database
    32: (
        "database/test_health.py::test_capacity_is_size_and_overflow",
        "database/test_pool.py::test_usage_is_of_all_connections_that_the_pool_may_open",
    ),
    33: (
        "database/test_metrics.py::test_the_services_own_mapping_keeps_what_it_holds",
        "database/test_metrics.py::test_a_name_that_somebody_else_has_is_told_and_the_rest_is_there",
        "database/test_metrics.py::test_a_hyphenated_service_has_names_without_quotes",
    ),
    34: ("database/test_pool.py::test_set_up_three_times_and_disposed_of_it_counts_once",),
    35: (
        "database/test_trackers.py::test_a_repository_class_can_be_wrapped_in_three_ways",
        "database/test_trackers.py::test_a_table_that_was_not_named_is_the_statements",
    ),
    # Error handling
    36: ("errors/test_handlers.py::test_what_the_framework_refuses_keeps_its_status",),
    37: (
        "errors/test_validation_answers.py::test_validation_errors_of_any_content",
        "errors/test_redaction.py::test_hostile_details_neither_break_nor_leak",
    ),
    38: ("errors/test_http_mapping.py::test_statuses",),
    39: (
        "foundation/test_errors.py::test_errors_survive_pickle_and_copy",
        "errors/test_recording.py::test_subclasses_and_hostile_details_can_be_pickled",
    ),
    40: (
        "errors/test_recording.py::test_stacks_never_leave_the_process",
        "errors/test_recording.py::test_spans_hold_no_secret",
    ),
    41: (
        "errors/test_http_mapping.py::test_the_table_loads_no_framework",
        "errors/test_handlers.py::test_one_line_in_the_log",
    ),
    42: (
        "errors/test_testing_helpers.py::test_any_family_of_codes",
        "errors/test_recording.py::test_added_details_and_copies_record_nothing",
    ),
    # Resilience and HTTP client
    43: ("resilience/test_circuit_breaker.py::test_calls_whatever_can_be_called",),
    44: (
        "resilience/test_circuit_breaker.py::test_sync_decorator_without_a_loop",
        "resilience/test_circuit_breaker.py::test_decorator",
    ),
    45: (
        "resilience/test_breaker_policy.py::test_half_open_lets_few_through_at_once",
        "resilience/test_breaker_policy.py::test_results_of_an_earlier_state_do_not_count",
        "resilience/test_breaker_policy.py::test_an_undecided_half_open_opens_again",
        "resilience/test_breaker_policy.py::test_call_timeout_is_a_failure_whatever_is_expected",
        "resilience/test_metrics.py::test_registry",
        "resilience/test_circuit_breaker.py::test_assigned_state_and_time_drive_it",
        "errors/test_recording.py::test_a_breaker_records_once_and_without_secrets",
    ),
    46: (
        "http_client/test_http_client.py::test_statuses",
        "http_client/test_http_client.py::test_timeout_and_no_connection",
        "http_client/test_http_client.py::test_retries_end_with_the_last_error",
        "http_client/test_http_client.py::test_connections_are_limited",
    ),
    # Middleware, metrics, tracing
    47: (
        "web/test_http_metrics.py::test_a_hundred_thousand_urls_leave_the_number_of_series_constant",
        "web/test_tracing_middleware.py::test_an_unknown_path_names_no_span",
    ),
    48: (
        "web/test_service_collectors.py::test_collectors_under_their_other_usual_names_are_found",
        "web/test_service_collectors.py::test_a_collector_that_does_not_fit_costs_one_log_line",
    ),
    49: ("web/test_metrics_setup.py::test_applications_of_one_process_share_collectors",),
    50: (
        "observability/test_provider.py::test_init_tracing_is_idempotent",
        "observability/test_provider.py::test_without_a_collector_nothing_waits_and_little_is_said",
        "web/test_tracing_middleware.py::test_only_5xx_is_the_servers_error",
        "web/test_tracing_middleware.py::test_the_span_of_a_cancelled_request_ends",
        "foundation/test_tracing.py::test_a_failing_operation_is_recorded_once",
        "foundation/test_tracing.py::test_an_operation_is_a_span_below_the_context",
    ),
    # Logging and configuration
    51: ("logging/test_logging_utils.py::test_early_logger_follows_later_configuration",),
    52: (
        "logging/test_logging_utils.py::test_production_line",
        "logging/test_logging_utils.py::test_log_event_processing",
        "logging/test_logging_utils.py::test_unknown_level_is_refused",
        "logging/test_logging_utils.py::test_standard_library_records_look_alike",
    ),
    53: (
        "config/test_secure_base.py::test_no_password_survives_masking",
        "config/test_secure_base.py::test_shared_credentials_from_the_env_file",
        "config/test_secure_base.py::test_empty_secret_warns_where_it_matters",
    ),
    # Packaging
    54: (
        "architecture/test_imports.py::test_a_light_module_loads_no_driver_and_no_framework",
        "architecture/test_imports.py::test_a_missing_driver_names_the_extra",
    ),
}


def tests_of(number: int) -> list[str]:
    """The tests that find a defect, as pytest is called with them."""
    named = [one for one in EVIDENCE[number] if not one.startswith("adr/")]
    return [f"{HERE}::{one[6:]}" if one.startswith("here::") else TESTS + one for one in named]


def names_of_tests() -> Iterator[tuple[str, str]]:
    """Each of these tests with the name that it has from a defect's number."""
    for number in EVIDENCE:
        yield from ((test, f"defect_{number:02}") for test in tests_of(number))
