"""What tests of several folders share: small models, data and runs."""
