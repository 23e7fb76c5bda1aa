# A fresh project, with nothing set but its id.

mock_provider "google" {
  mock_resource "google_app_engine_application" {
    defaults = { default_hostname = "my-project.uc.r.appspot.com" }
  }
  mock_resource "google_service_account" {
    defaults = {
      email  = "deferred-default@my-project.iam.gserviceaccount.com"
      member = "serviceAccount:deferred-default@my-project.iam.gserviceaccount.com"
    }
  }
}

variables {
  project = "my-project"
}

run "outputs_are_what_a_deploy_reads" {
  assert {
    condition     = join(" ", [output.project, output.region, output.app_engine_location, output.database]) == "my-project us-central1 us-central (default)"
    error_message = "Project, region, App Engine's name for it or the database is another."
  }

  assert {
    condition     = output.service_accounts["default"] == "deferred-default@my-project.iam.gserviceaccount.com"
    error_message = "The accounts are ${jsonencode(output.service_accounts)}."
  }

  assert {
    condition     = output.signing_keys_secret == "projects/my-project/secrets/deferred-signing-keys"
    error_message = "The secret is ${output.signing_keys_secret}."
  }

  assert {
    condition     = join(" ", output.queues) == "default"
    error_message = "The queues are ${jsonencode(output.queues)}."
  }

  assert {
    condition     = length(output.sweep_environment) == 0 && length(module.sweep) == 0
    error_message = "With cron.yaml there is no other scheduler, and an app needs no settings for one."
  }

  assert {
    condition     = output.delete_protection
    error_message = "By default a destroy must leave the data."
  }
}

run "the_database_of_an_app_in_europe_west_is_in_eur3" {
  command = plan

  variables {
    region = "europe-west1"
  }

  assert {
    condition     = module.naming.database_location == "eur3" && output.app_engine_location == "europe-west"
    error_message = "App Engine and Firestore know europe-west1 by other names."
  }
}
