# A new project with no setting except its id.

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

run "a_deploy_finds_what_it_needs_in_the_outputs" {
  assert {
    condition     = join(" ", [output.project, output.region, output.app_engine_location, output.database]) == "my-project us-central1 us-central (default)"
    error_message = "The outputs are ${join(" ", [output.project, output.region, output.app_engine_location, output.database])}."
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
    condition     = length(output.sweep_environment) == 0 && length(google_cloud_scheduler_job.sweep) == 0
    error_message = "cron.yaml and Cloud Scheduler would both request sweeps."
  }

  assert {
    condition     = output.delete_protection
    error_message = "A destroy would delete the data by default."
  }
}

run "creators_of_tasks_see_nothing_of_the_app_but_its_existence" {
  assert {
    condition     = toset(google_project_iam_custom_role.task_creator.permissions) == toset(["appengine.applications.get"])
    error_message = "The role has ${jsonencode(google_project_iam_custom_role.task_creator.permissions)}."
  }
}

run "the_database_of_an_app_in_europe_west_is_in_eur3" {
  command = plan

  variables {
    region = "europe-west1"
  }

  assert {
    condition     = google_firestore_database.this.location_id == "eur3" && output.app_engine_location == "europe-west"
    error_message = "The database is in ${google_firestore_database.this.location_id}, the app in ${output.app_engine_location}."
  }
}
