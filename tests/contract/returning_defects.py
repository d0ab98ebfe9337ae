"""For defects of the earlier library: how each can be brought back, as an edit of the source.

`scripts/return_defects.py` makes these edits, one at a time and in a copy, and demands that a test which
`defects` names for the number fails. Each edit replaces a text that stands in its file exactly once.
"""

from typing import NamedTuple

__all__ = ["RETURNING", "Edit"]


class Edit(NamedTuple):
    """What to replace by what, in a module of the library."""

    module: str
    text: str
    by: str


RETURNING: dict[int, Edit] = {
    1: Edit(
        "idempotency_v2/consumer.py",
        "            await self._keeper.release(delivery)\n            raise\n",
        "            await self._keeper.release(delivery)\n            return await run(confirm)\n",
    ),
    2: Edit(
        "idempotency_v2/claiming.py",
        '        if policy == "wait" and self._clock() < deadline:\n            return True\n',
        '        if policy == "wait":\n            return False\n',
    ),
    3: Edit(
        "idempotency_v2/scripts.py",
        "elseif string.find(stored, a1, 1, true) then answer = redis.call('DEL', key) end",
        "else answer = redis.call('DEL', key) end",
    ),
    4: Edit(
        "idempotency_v2/identity.py",
        "digest=_digest_of_id(event_id),",
        "digest=generate_deterministic_event_id(msg.value),",
    ),
    5: Edit("idempotency_v2/records.py", "return record if isinstance(record, dict) else {}", "return record"),
    6: Edit(
        "idempotency_v2/consumer.py",
        "        except StoreError as error:\n            down = error\n",
        "        except Exception as error:\n            down = StoreError('any', error)\n",
    ),
    7: Edit("idempotency_v2/consumer.py", 'if not confirmed and self._config.unconfirmed == "release":', "if False:"),
    8: Edit("outbox/wire.py", '_uuid_text(stored.get("event_id")) or str(event.id)', "str(__import__('uuid').uuid4())"),
    9: Edit(
        "outbox/wire.py",
        "    headers = standard_headers(event, fields)\n    return",
        "    headers: dict[str, str] = {}\n    return",
    ),
    10: Edit(
        "outbox/statements.py",
        '        "coalesce(retry_count, 0) < :max_retries",\n',
        '        "(true OR :max_retries > 0)",\n',
    ),
    11: Edit("outbox/schedule.py", "return spread(whole, self._jitter())", "return 0.0"),
    12: Edit(
        "outbox/statements.py",
        "WHERE pg_try_advisory_lock(:space, lane) LIMIT",
        "WHERE pg_try_advisory_lock(:space, lane) IS NOT NULL LIMIT",
    ),
    13: Edit(
        "outbox/batch.py", "        broken.add(key)\n        if outcome.transient:", "        if outcome.transient:"
    ),
    14: Edit("outbox/manager.py", "if session is None or not self._wake.send_after_commit(session):", "if True:"),
    15: Edit("outbox/wake_sending.py", "if self._redis is not None and _as_int(length) > LIST_LIMIT:", "if False:"),
    16: Edit(
        "_redis_connections.py",
        "waiting_s = config.blocking_slice_s + config.socket_timeout_s",
        "waiting_s = config.socket_timeout_s",
    ),
    17: Edit(
        "outbox/relay.py",
        "OutboxMetrics(service_name) if settings.enable_metrics",
        "OutboxMetrics() if settings.enable_metrics",
    ),
    18: Edit("outbox/delivery.py", "topic=event.topic, envelope=", 'topic=event.event_data["topic"], envelope='),
    19: Edit(
        "outbox/di.py",
        "return self._settings if self._settings is not None else settings_for_environment()",
        "return settings_for_environment()",
    ),
    20: Edit("outbox/di.py", '    if name == "testing":\n', '    print(name)\n    if name == "testing":\n'),
    21: Edit("outbox/relay.py", "_, pending = await asyncio.wait([task], timeout=STOP_GRACE_S)", "pending = [task]"),
    22: Edit(
        "outbox/purge.py",
        "published_at < now() - make_interval(secs => :retention)",
        "published_at < now() - make_interval(secs => :retention + 1e9)",
    ),
    23: Edit(
        "kafka/resilient_kafka_bus.py",
        '            raise MessageHeldBackError(topic, "an earlier message of its key was handed over and is not sent yet")\n        await self._sender.send(topic, envelope, key, headers)\n',
        '            raise MessageHeldBackError(topic, "an earlier message of its key was handed over and is not sent yet")\n        await self.publish(topic, envelope, key, headers)\n',
    ),
    24: Edit(
        "kafka/recovery.py",
        "return waits and (breaker is None or breaker.retry_after() <= 0)",
        'return waits and (breaker is None or breaker.state.value != "open")',
    ),
    25: Edit(
        "kafka/resilient_kafka_bus.py",
        "            await self._send_the_rest()\n",
        "            await self.fallback_handler.clear_queue()\n",
    ),
    26: Edit("kafka/driver_producer.py", "key_serializer=_key_bytes,", "key_serializer=None,"),
    27: Edit("redis_client.py", "pubsub, self._pubsub = self._pubsub, None", "pubsub = self._pubsub"),
    28: Edit(
        "redis_client.py",
        "        address = mask_url_credentials(self.redis_url)\n        return f",
        "        address = self.redis_url\n        return f",
    ),
    29: Edit(
        "_redis_pubsub/encoding.py",
        'dumps({"event": event_type, "data": data}, default=_json_form, any_keys=True).decode("utf-8")',
        '__import__("json").dumps({"event": event_type, "data": data})',
    ),
    30: Edit("_redis_commands.py", "                return list(found)\n", "                return [*found, *page]\n"),
    32: Edit("database/pool_status.py", "return size + allowed if allowed >= 0 and size else 0", "return size"),
    33: Edit("database/metrics.py", "self.metrics.setdefault(name, collector)", "self.metrics[name] = collector"),
    34: Edit(
        "database/pool_watch.py",
        "    watch = _watches.get(engine)\n    if watch is None:\n        watch",
        "    watch = None\n    if watch is None:\n        watch",
    ),
    35: Edit(
        "database/middleware.py", "return lambda given: self.wrap_repository_class(given, table_mapping)", "return None"
    ),
    36: Edit(
        "middleware/frameworks/quart_errors.py",
        "    if http_exceptions:\n        app.register_error_handler(HTTPException, _on_http)\n",
        "    app.register_error_handler(HTTPException, _on_unexpected)\n",
    ),
    37: Edit("error_handling/http_mapping.py", '"details": plain(detail.details),', '"details": detail.details,'),
    38: Edit(
        "error_handling/http_mapping.py",
        "return known.status if known else HTTPStatus.INTERNAL_SERVER_ERROR",
        "return HTTPStatus.INTERNAL_SERVER_ERROR",
    ),
    39: Edit("error_handling/huleedu_error.py", "    def __reduce__(self)", "    def _reduce(self)"),
    40: Edit(
        "../../../common_core/src/common_core/models/error_models.py", '    @field_serializer("stack_trace")\n', ""
    ),
    41: Edit(
        "error_handling/http_mapping.py",
        "import math\nimport re\n",
        "import math\nimport quart  # noqa: F401\nimport re\n",
    ),
    42: Edit(
        "error_handling/huleedu_error.py",
        'return self._twin(self.error_detail.model_copy(update={"details": details}))',
        'return type(self)(self.error_detail.model_copy(update={"details": details}))',
    ),
    43: Edit(
        "resilience/circuit_breaker.py",
        'if type(result) is CoroutineType or hasattr(type(result), "__await__"):',
        "if iscoroutinefunction(func):",
    ),
    44: Edit("resilience/circuit_breaker.py", "        @wraps(func)\n        def run_now(", "        def run_now("),
    45: Edit("resilience/machine.py", "        if self._trials >= permits:\n", "        if False:\n"),
    46: Edit(
        "http_client/_errors.py", "_UNAVAILABLE = frozenset({500, 502, 503, 504})", "_UNAVAILABLE = frozenset({500})"
    ),
    47: Edit(
        "middleware/request_context.py",
        "exchange.route = edge.route(scope, exchange)",
        'exchange.route = str(scope["path"])',
    ),
    48: Edit(
        "middleware/http_metrics.py",
        '_OTHER_COUNT_NAMES = ("request_count", "http_requests_total", "requests_total")',
        '_OTHER_COUNT_NAMES = ("request_count",)',
    ),
    49: Edit("_metrics.py", "    if isinstance(existing, kind):\n", "    if False:\n"),
    50: Edit(
        "observability/provider.py",
        "            if _recording is not None:\n                _recording.start(settings or TracingSettings())\n            elif isinstance(trace.get_tracer_provider(), ProxyTracerProvider):",
        "            if True:",
    ),
    52: Edit(
        "_log_pipeline/logger.py",
        "return args[0] if len(args) == 1 else _interpolate(args[0], args[1:]), fields",
        "return args[0], fields",
    ),
    53: Edit("_redaction/urls.py", 'end = word.rfind("@")', 'end = word.find("@")'),
    54: Edit("protocols.py", "from typing import", "import redis.asyncio  # noqa: F401\nfrom typing import"),
}
