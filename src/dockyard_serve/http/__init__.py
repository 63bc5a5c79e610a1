"""HTTP/1.1 as a server speaks it, as low as a Python program can go.

`head` parses, `chunked` decodes, `message` holds what handlers see, `connection` has the socket.
"""
