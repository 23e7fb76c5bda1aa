# What things are called, and where they are. deploy/infrastructure.py knows the same, for when there is no state to ask;
# a test compares them. No provider is needed, so that it can be evaluated anywhere.

locals {
  # App Engine calls two regions something else, and its apps there have multi-regional databases: in these regions no
  # other location goes with an app (App Engine documentation, "Locations"; Firestore documentation, "Locations").
  app_engine_locations = { "us-central1" = "us-central", "europe-west1" = "europe-west" }
  database_locations   = { "us-central1" = "nam5", "europe-west1" = "eur3" }
}
