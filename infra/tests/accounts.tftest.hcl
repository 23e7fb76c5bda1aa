mock_provider "google" {
  mock_resource "google_service_account" {
    defaults = { member = "serviceAccount:the-account" }
  }
}

variables {
  project      = "my-project"
  region       = "us-central1"
  service      = "worker"
  account_id   = "deferred-worker"
  queues       = ["default", "mails"]
  task_role    = "projects/my-project/roles/taskCreator"
  secret_id    = "projects/my-project/secrets/deferred-signing-keys"
  reads_secret = true
  deployers    = ["group:developers@example.com"]
}

run "an_account_has_the_rights_of_its_service_and_no_more" {
  module {
    source = "./modules/runtime_account"
  }

  variables {
    acts_as_self = false
  }

  assert {
    condition     = toset(keys(google_project_iam_member.this)) == toset(["roles/datastore.user", "roles/logging.logWriter"])
    error_message = "The account has ${jsonencode(keys(google_project_iam_member.this))} on the project."
  }

  assert {
    condition     = google_project_iam_member.task_creator[0].role == "projects/my-project/roles/taskCreator" && google_project_iam_member.task_creator[0].member == "serviceAccount:the-account"
    error_message = "The account has ${google_project_iam_member.task_creator[0].role}, not the custom role for creating tasks."
  }

  assert {
    condition     = toset(keys(google_cloud_tasks_queue_iam_member.enqueuer)) == toset(["default", "mails"])
    error_message = "The account enqueues into ${jsonencode(keys(google_cloud_tasks_queue_iam_member.enqueuer))}."
  }

  assert {
    condition     = alltrue([for grant in google_cloud_tasks_queue_iam_member.enqueuer : grant.role == "roles/cloudtasks.enqueuer"])
    error_message = "The account may do more with a queue than enqueue."
  }

  assert {
    condition     = google_secret_manager_secret_iam_member.accessor[0].secret_id == var.secret_id && google_secret_manager_secret_iam_member.accessor[0].role == "roles/secretmanager.secretAccessor"
    error_message = "The account has ${google_secret_manager_secret_iam_member.accessor[0].role} on ${google_secret_manager_secret_iam_member.accessor[0].secret_id}."
  }

  assert {
    condition     = length(google_service_account_iam_member.self) == 0
    error_message = "The account may act as itself, which only tasks with OIDC tokens need."
  }

  assert {
    condition     = google_service_account_iam_member.deployer["group:developers@example.com"].role == "roles/iam.serviceAccountUser"
    error_message = "The deployers may not deploy versions that run as the account."
  }
}

run "an_account_without_queues_and_keys_gets_no_rights_on_tasks" {
  module {
    source = "./modules/runtime_account"
  }

  variables {
    queues       = []
    reads_secret = false
    acts_as_self = false
  }

  assert {
    condition     = length(google_cloud_tasks_queue_iam_member.enqueuer) == 0 && length(google_project_iam_member.task_creator) == 0
    error_message = "The account may create tasks."
  }

  assert {
    condition     = length(google_secret_manager_secret_iam_member.accessor) == 0
    error_message = "The account reads the signing keys."
  }
}

run "an_account_may_act_as_itself_for_tasks_with_its_token" {
  module {
    source = "./modules/runtime_account"
  }

  variables {
    acts_as_self = true
  }

  assert {
    condition     = google_service_account_iam_member.self[0].role == "roles/iam.serviceAccountUser" && google_service_account_iam_member.self[0].member == "serviceAccount:the-account"
    error_message = "Cloud Tasks would refuse the service's tasks."
  }
}
