"""The code behind the jobs `infra-*`, `deploy-*`, `e2e-*` and `rehearse-*`."""
