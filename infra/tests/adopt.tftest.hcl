mock_provider "google" {}

override_resource {
  target = google_app_engine_application.this
  values = { default_hostname = "existing.uc.r.appspot.com" }
}

override_resource {
  target = google_firestore_database.this
}

override_resource {
  target = google_cloud_tasks_queue.this
}

run "existing_resources_are_imported" {
  command = plan

  variables {
    project        = "my-project"
    adopt_existing = ["app_engine", "database", "queues"]
  }

  # The plan knows the hostname of an existing app only. An app still to be made would have none yet.
  assert {
    condition     = output.hostname == "existing.uc.r.appspot.com"
    error_message = "The plan makes an app instead of importing the existing one."
  }
}
