"""A trained model as a web service with a page, and a page to review what an audit found.

`limits` says what a request may cost, `bodies` reads it in memory alone, `batching` gathers pictures of all clients,
`api` answers, `guard` refuses, `running` starts and stops; `desk` and `review` are the review page. Nothing that a
client sends is written to disk.
"""
