"""What `bench/serving.py` and `bench/loading.py` are made of: real servers, requests for them, and who sends those."""
