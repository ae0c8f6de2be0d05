"""Methods and protocols side by side on real images: ``python -m benchmarks.quality`` computes rows, ``….results`` the tables.

It needs torch, torchvision, numpy, safetensors, tqdm and matplotlib beside ``fct`` (scikit-learn for the digits), no registry and no
service, so that it runs alone on a GPU machine.
"""
