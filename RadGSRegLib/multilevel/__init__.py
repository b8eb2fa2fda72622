"""Several vertebrae of one CT registered together, each with a pose and a verdict of its own."""

from .types import SpineRegistration as SpineRegistration
