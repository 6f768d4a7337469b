"""What the Machine Config Operator and containers/image themselves answered, and whether we agree.

`vectors/` holds recorded inputs and outputs; `answer.py` is the door through which others ask the same.
"""
