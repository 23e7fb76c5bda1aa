mock_provider "google" {}

run "index_yaml_means_the_same_as_to_gcloud" {
  command = plan

  variables {
    project          = "my-project"
    index_yaml_files = ["tests/index.yaml", "tests/empty_index.yaml"]
  }

  assert {
    condition = toset(keys(google_firestore_index.this)) == toset([
      "Counter COLLECTION_RECURSIVE changed DESCENDING __name__ ASCENDING",
      "Customer COLLECTION_GROUP name ASCENDING joined DESCENDING",
      "Order COLLECTION_GROUP customer ASCENDING placed ASCENDING",
    ])
    error_message = "The indexes are ${jsonencode(keys(google_firestore_index.this))}."
  }
}
