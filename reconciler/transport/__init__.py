"""How nodes are reached: local directories, ssh, and a fake in memory, all behind ports.Transport; and node.sh itself.

I/O: subprocesses, sockets, files of the package. Called only by wiring (which builds a TransportRouter) and by tests;
the form of requests and answers is docs/reference/node-protocol.md, encoded and decoded in protocol.py alone.
"""
