"""From a fresh Google Cloud project to a tested deployment: what the `infra-*`, `deploy-*` and `e2e-*` jobs run."""
