mock_provider "google" {}

override_resource {
  target = module.app_engine.google_app_engine_application.this
  values = { default_hostname = "there-before.uc.r.appspot.com" }
}

override_resource {
  target = module.datastore.google_firestore_database.this
}

override_resource {
  target = module.queues.google_cloud_tasks_queue.this
}

run "what_is_there_already_is_imported" {
  command = plan

  variables {
    project        = "my-project"
    adopt_existing = ["app_engine", "database", "queues"]
  }

  # Of an app that was to be made, the plan would not know the hostname.
  assert {
    condition     = output.hostname == "there-before.uc.r.appspot.com"
    error_message = "The app is not the one that was there."
  }
}
