mock_provider "google" {}

variables {
  project          = "my-project"
  index_yaml_files = ["tests/index.yaml"]
}

run "a_destroy_leaves_a_protected_database" {
  command = plan

  assert {
    condition     = google_firestore_database.this.delete_protection_state == "DELETE_PROTECTION_ENABLED"
    error_message = "The database is not protected."
  }

  assert {
    condition     = google_firestore_database.this.deletion_policy == "ABANDON"
    error_message = "A destroy would try to delete the protected database and fail."
  }

  assert {
    condition     = google_firestore_database.this.type == "DATASTORE_MODE" && google_firestore_database.this.name == "(default)"
    error_message = "Cloud NDB needs the database (default) in Datastore mode."
  }
}

run "transactions_are_pessimistic_by_default" {
  command = plan

  assert {
    condition     = google_firestore_database.this.concurrency_mode == "PESSIMISTIC"
    error_message = "The concurrency mode is ${google_firestore_database.this.concurrency_mode}."
  }
}

run "an_adopted_database_can_keep_its_concurrency_mode" {
  command = plan

  variables {
    concurrency_mode = "OPTIMISTIC_WITH_ENTITY_GROUPS"
  }

  assert {
    condition     = google_firestore_database.this.concurrency_mode == "OPTIMISTIC_WITH_ENTITY_GROUPS"
    error_message = "The concurrency mode is ${google_firestore_database.this.concurrency_mode}."
  }
}

run "a_destroy_deletes_an_unprotected_database" {
  command = plan

  variables {
    point_in_time_recovery = false
    delete_protection      = false
  }

  assert {
    condition     = google_firestore_database.this.delete_protection_state == "DELETE_PROTECTION_DISABLED" && google_firestore_database.this.deletion_policy == "DELETE"
    error_message = "A destroy would leave the database."
  }

  assert {
    condition     = google_firestore_database.this.point_in_time_recovery_enablement == "POINT_IN_TIME_RECOVERY_DISABLED"
    error_message = "The project would pay for point-in-time recovery."
  }
}

run "indexes_and_ttl_policies_are_made" {
  command = plan

  assert {
    condition     = [for field in google_firestore_index.this["Customer COLLECTION_GROUP name ASCENDING joined DESCENDING"].fields : "${field.field_path} ${field.order}"] == ["name ASCENDING", "joined DESCENDING"]
    error_message = "The index has other fields than index.yaml."
  }

  assert {
    condition     = alltrue([for index in google_firestore_index.this : index.api_scope == "DATASTORE_MODE_API"])
    error_message = "An index does not work in Datastore mode."
  }

  assert {
    condition     = alltrue([for field in google_firestore_field.expires : field.field == "expires" && length(field.ttl_config) == 1 && length(field.index_config) == 0])
    error_message = "A TTL policy is on another property than expires, or changes indexes."
  }

  assert {
    condition     = toset([for field in google_firestore_field.expires : field.collection]) == toset(["_DeferredPayload", "_DeferredReceipt"])
    error_message = "The TTL policies are on ${jsonencode(keys(google_firestore_field.expires))}."
  }
}

run "there_are_no_ttl_policies_unless_wanted" {
  command = plan

  variables {
    ttl_policies = false
  }

  assert {
    condition     = length(google_firestore_field.expires) == 0
    error_message = "The TTL policies are on ${jsonencode(keys(google_firestore_field.expires))}."
  }
}
