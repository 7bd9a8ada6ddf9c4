"""Thriftgate's classifier: judges in about a millisecond whether a prompt needs the premium model.

A small int8 network on the CPU reads the head and tail of the last user turn and gives a difficulty score, the
calibrated chance that a cheap model's answer is as good (`p_cheap`), a task and an embedding. No torch at run time.
In reading order:

    predict      Predictor: the gateway's only door
    conversation what is asked in a conversation, without what a client program put around it
    features     text and structure → numbers; the one definition shared by training and serving
    encoder      the ONNX session
    heads        pooled states → judgements, task, embedding; numpy
    calibration  logits → probabilities
    bundle       the files that make one classifier; verified or refused
    adapt        the heads fitted to a user's own outcomes: `thriftgate train`
    bench        latency by token count (`python -m classifier.bench`)
    training/    how the files in onnx_models/ are made and measured; the only place that needs torch
"""
