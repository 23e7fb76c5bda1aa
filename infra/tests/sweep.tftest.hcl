mock_provider "google" {
  mock_resource "google_app_engine_application" {
    defaults = { default_hostname = "my-project.uc.r.appspot.com" }
  }
  mock_resource "google_service_account" {
    defaults = { email = "deferred-worker@my-project.iam.gserviceaccount.com" }
  }
}

run "cloud_scheduler_proves_itself_with_a_token_that_the_app_can_verify" {
  variables {
    project         = "my-project"
    services        = ["default", "worker"]
    sweep_scheduler = "cloud-scheduler"
    sweep_service   = "worker"
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
  command = plan
  module {
    source = "./modules/sweep"
  }

  variables {
    project         = "my-project"
    region          = "us-central1"
    schedule        = "*/5 * * * *"
    service         = "default"
    hostname        = "my-project.uc.r.appspot.com"
    service_account = "a@my-project.iam.gserviceaccount.com"
  }

  assert {
    condition     = google_cloud_scheduler_job.this.http_target[0].uri == "https://my-project.uc.r.appspot.com/_ah/deferred/sweep" && google_cloud_scheduler_job.this.http_target[0].http_method == "POST"
    error_message = "The job calls something else."
  }

  assert {
    condition     = google_cloud_scheduler_job.this.http_target[0].oidc_token[0].audience == output.environment.DEFERRED_AUDIENCE
    error_message = "The token is for another audience than the app expects."
  }
}
