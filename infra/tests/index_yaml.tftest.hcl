run "index_yaml_is_read_as_gcloud_reads_it" {
  command = plan
  module {
    source = "./modules/index_yaml"
  }

  variables {
    files = ["tests/index.yaml", "tests/empty_index.yaml"]
  }

  assert {
    condition = toset(keys(output.indexes)) == toset([
      "Counter COLLECTION_RECURSIVE changed DESCENDING __name__ ASCENDING",
      "Order COLLECTION_GROUP customer ASCENDING placed ASCENDING",
    ])
    error_message = "The indexes are ${jsonencode(keys(output.indexes))}."
  }
}
