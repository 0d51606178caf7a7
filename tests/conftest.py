"""What all tests of whole processes share."""


def pytest_configure(config):
    config.addinivalue_line("markers", "alone: computes all the time, or measures what belongs to the "
                            "whole machine, so that no other test may run beside it")
