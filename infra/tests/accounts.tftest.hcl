mock_provider "google" {
  mock_resource "google_service_account" {
    defaults = { member = "serviceAccount:the-account" }
  }
}

variables {
  project    = "my-project"
  region     = "us-central1"
  service    = "worker"
  account_id = "deferred-worker"
  queues     = ["default", "mails"]
  secret_id  = "projects/my-project/secrets/deferred-signing-keys"
  deployers  = ["group:developers@example.com"]
}

run "an_account_may_do_what_its_service_does_and_no_more" {
  module {
    source = "./modules/runtime_account"
  }

  variables {
    acts_as_self = false
  }

  assert {
    condition     = toset(keys(google_project_iam_member.this)) == toset(["roles/datastore.user", "roles/logging.logWriter", "roles/appengine.appViewer"])
    error_message = "On the project it has ${jsonencode(keys(google_project_iam_member.this))}."
  }

  assert {
    condition     = alltrue([for grant in google_cloud_tasks_queue_iam_member.enqueuer : grant.role == "roles/cloudtasks.enqueuer"]) && length(google_cloud_tasks_queue_iam_member.enqueuer) == 2
    error_message = "It enqueues into each of the queues, and does nothing else with them."
  }

  assert {
    condition     = google_secret_manager_secret_iam_member.accessor.secret_id == var.secret_id && google_secret_manager_secret_iam_member.accessor.role == "roles/secretmanager.secretAccessor"
    error_message = "It reads the signing keys, and no other secret."
  }

  assert {
    condition     = length(google_service_account_iam_member.self) == 0
    error_message = "Without OIDC tokens it need not act as itself."
  }

  assert {
    condition     = google_service_account_iam_member.deployer["group:developers@example.com"].role == "roles/iam.serviceAccountUser"
    error_message = "Who deploys a version has to be allowed to act as its account."
  }
}

run "an_account_whose_tasks_carry_its_token_acts_as_itself" {
  module {
    source = "./modules/runtime_account"
  }

  variables {
    acts_as_self = true
  }

  assert {
    condition     = google_service_account_iam_member.self[0].role == "roles/iam.serviceAccountUser" && google_service_account_iam_member.self[0].member == "serviceAccount:the-account"
    error_message = "Cloud Tasks would refuse its tasks."
  }
}

run "the_account_of_builds_gets_what_a_new_project_does_not_give_it" {
  module {
    source = "./modules/build_account"
  }

  assert {
    condition     = google_project_iam_member.source.member == "serviceAccount:my-project@appspot.gserviceaccount.com" && strcontains(google_project_iam_member.source.condition[0].expression, "resource.name == \"projects/_/buckets/staging.my-project.appspot.com\"")
    error_message = "The build reads what was uploaded, and no other bucket."
  }

  assert {
    condition     = toset(keys(google_project_iam_member.this)) == toset(["roles/artifactregistry.createOnPushWriter", "roles/logging.logWriter"])
    error_message = "On the project it has ${jsonencode(keys(google_project_iam_member.this))}."
  }
}
