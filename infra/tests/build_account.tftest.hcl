mock_provider "google" {}

run "the_build_account_gets_what_a_new_project_withholds" {
  variables {
    project = "my-project"
  }

  assert {
    condition     = google_project_iam_member.build_staging.member == "serviceAccount:my-project@appspot.gserviceaccount.com"
    error_message = "The grant goes to ${google_project_iam_member.build_staging.member}."
  }

  assert {
    condition     = strcontains(google_project_iam_member.build_staging.condition[0].expression, "resource.name == \"projects/_/buckets/staging.my-project.appspot.com\"")
    error_message = "The grant covers more than the staging bucket: ${google_project_iam_member.build_staging.condition[0].expression}"
  }

  assert {
    condition     = toset(keys(google_project_iam_member.build)) == toset(["roles/artifactregistry.createOnPushWriter", "roles/logging.logWriter"])
    error_message = "The build account has ${jsonencode(keys(google_project_iam_member.build))} on the project."
  }
}
