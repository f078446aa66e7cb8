"""Adapters to optimizers' host libraries; each is imported by its own name.

``bgs_opt.adapters.scipy``: a ``method=`` for ``scipy.optimize.minimize``.
``bgs_opt.adapters.nevergrad``: optimizers of Nevergrad's registry.
"""
