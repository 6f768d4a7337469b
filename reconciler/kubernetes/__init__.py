"""The Kubernetes API: a fleet's cluster as its nodes, drains, pods that write files, and OpenShift's resources.

I/O: HTTP; the only home of lightkube. Called by wiring alone, which connects and hands its parts to the core as ports;
node.sh's requests and answers are encoded by transport/protocol.py.
"""
