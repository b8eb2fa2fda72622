"""RadGSRegLib: register a CT vertebra to calibrated X-rays through radiative Gaussians.

The library never imports slicer, qt or vtk; the module in ``RadGSReg/`` sits on top of it.
Everything is millimetres in LPS. Transforms are named ``a_to_b`` and act on column vectors.
"""

__version__ = "0.1.0"
