from __future__ import annotations

from hemascope.serve.telemetry import Counter, Gauge, Histogram, Info, text_of


def test_the_text_is_what_prometheus_reads() -> None:
    counter = Counter("asked_total", "Requests.", "path")
    counter.add("/a")
    counter.add("/a", count=2)
    counter.add('/"b"\n')
    seconds = Histogram("seconds", "How long.", (0.1, 1.0))
    for value in (0.05, 0.1, 0.5, 3.0):
        seconds.observe(value)
    text = text_of(
        [counter, seconds, Gauge("queue", "Waiting.", lambda: 3), Info("model", "Which.", {"name": "small"})]
    )
    assert text.splitlines() == [
        "# HELP asked_total Requests.",
        "# TYPE asked_total counter",
        'asked_total{path="/\\"b\\"\\n"} 1',
        'asked_total{path="/a"} 3',
        "# HELP seconds How long.",
        "# TYPE seconds histogram",
        'seconds_bucket{le="0.1"} 2',
        'seconds_bucket{le="1"} 3',
        'seconds_bucket{le="+Inf"} 4',
        "seconds_sum 3.650000",
        "seconds_count 4",
        "# HELP queue Waiting.",
        "# TYPE queue gauge",
        "queue 3",
        "# HELP model Which.",
        "# TYPE model gauge",
        'model{name="small"} 1',
    ]


def test_a_counter_without_labels_starts_at_nought_and_large_counts_keep_their_digits() -> None:
    counter = Counter("pictures_total", "Pictures.")
    assert "pictures_total 0" in text_of([counter])
    counter.add(count=123_456_789)
    assert "pictures_total 123456789" in text_of([counter])
