"""Who may do what: which scope each call needs, which keys there are, and whether a request may pass.

No web framework is needed for that: `app.front` and `app.inference.grpc` ask the gate, each in its own way.
"""
