# Names and locations that follow from the variables alone. deploy/infrastructure.py has the same ones for projects
# without Terraform state; a test compares the two. This file needs no provider, so the test evaluates it anywhere.

locals {
  # App Engine has its own names for two regions. Apps in these two use a multi-region database and no other (App Engine
  # documentation, "Locations"; Firestore documentation, "Locations").
  app_engine_location = lookup({ "us-central1" = "us-central", "europe-west1" = "europe-west" }, var.region, var.region)
  database_location   = lookup({ "us-central1" = "nam5", "europe-west1" = "eur3" }, var.region, var.region)

  account_ids            = { for service in var.services : service => "deferred-${service}" }
  signing_keys_secret_id = "deferred-signing-keys"
}
