"""The simulated spot cloud: EC2 and the kubelet for one laptop, behind one small HTTP API.

A machine is an entry in a book; the pod on it is a real process in a session of its own, so it outlives every process
of the control plane, this one included. The market is played (denied capacity, interruption notices, recorded
availability); what it does to a pod is real: a signal, then `kill -9`.
"""
