mock_provider "google" {
  mock_resource "google_app_engine_application" {
    defaults = { default_hostname = "my-project.uc.r.appspot.com" }
  }
  mock_resource "google_service_account" {
    defaults = { email = "deferred-worker@my-project.iam.gserviceaccount.com" }
  }
}

variables {
  project         = "my-project"
  sweep_scheduler = "cloud-scheduler"
}

run "the_app_can_verify_the_token_of_cloud_scheduler" {
  variables {
    services      = ["default", "worker"]
    sweep_service = "worker"
  }

  assert {
    condition     = output.sweep_environment["DEFERRED_SERVICE_ACCOUNT"] == "deferred-worker@my-project.iam.gserviceaccount.com"
    error_message = "The app expects the token of another account: ${jsonencode(output.sweep_environment)}"
  }

  assert {
    condition     = output.sweep_environment["DEFERRED_AUDIENCE"] == "https://worker-dot-my-project.uc.r.appspot.com"
    error_message = "The app expects a token for another audience: ${jsonencode(output.sweep_environment)}"
  }
}

run "the_job_calls_the_sweep" {
  variables {
    sweep_schedule = "*/5 * * * *"
  }

  assert {
    condition     = google_cloud_scheduler_job.sweep[0].http_target[0].uri == "https://my-project.uc.r.appspot.com/_ah/deferred/sweep" && google_cloud_scheduler_job.sweep[0].http_target[0].http_method == "POST"
    error_message = "The job calls ${google_cloud_scheduler_job.sweep[0].http_target[0].http_method} ${google_cloud_scheduler_job.sweep[0].http_target[0].uri}."
  }

  assert {
    condition     = google_cloud_scheduler_job.sweep[0].schedule == "*/5 * * * *"
    error_message = "The schedule is ${google_cloud_scheduler_job.sweep[0].schedule}."
  }

  assert {
    condition     = google_cloud_scheduler_job.sweep[0].http_target[0].oidc_token[0].audience == output.sweep_environment["DEFERRED_AUDIENCE"]
    error_message = "The token is for another audience than the app expects."
  }
}
