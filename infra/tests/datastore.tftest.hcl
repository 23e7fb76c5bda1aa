mock_provider "google" {}

variables {
  project                = "my-project"
  location               = "nam5"
  point_in_time_recovery = true
  delete_protection      = true
  ttl_kinds              = ["_DeferredPayload", "_DeferredReceipt"]
  indexes = {
    "by time" = {
      kind        = "Order"
      query_scope = "COLLECTION_GROUP"
      properties  = [{ name = "customer", order = "ASCENDING" }, { name = "placed", order = "DESCENDING" }]
    }
  }
}

run "a_protected_database_survives_a_destroy" {
  command = plan
  module {
    source = "./modules/datastore"
  }

  assert {
    condition     = google_firestore_database.this.delete_protection_state == "DELETE_PROTECTION_ENABLED"
    error_message = "The database is not protected."
  }

  assert {
    condition     = google_firestore_database.this.deletion_policy == "ABANDON"
    error_message = "A destroy would try to delete it, and fail."
  }

  assert {
    condition     = google_firestore_database.this.type == "DATASTORE_MODE" && google_firestore_database.this.name == "(default)"
    error_message = "Cloud NDB wants the database (default) in Datastore mode."
  }
}

run "an_unprotected_database_goes" {
  command = plan
  module {
    source = "./modules/datastore"
  }

  variables {
    point_in_time_recovery = false
    delete_protection      = false
  }

  assert {
    condition     = google_firestore_database.this.delete_protection_state == "DELETE_PROTECTION_DISABLED" && google_firestore_database.this.deletion_policy == "DELETE"
    error_message = "The database would stay."
  }

  assert {
    condition     = google_firestore_database.this.point_in_time_recovery_enablement == "POINT_IN_TIME_RECOVERY_DISABLED"
    error_message = "Point-in-time recovery would be paid for."
  }
}

run "indexes_and_ttl_policies_are_made" {
  command = plan
  module {
    source = "./modules/datastore"
  }

  assert {
    condition     = [for field in google_firestore_index.this["by time"].fields : "${field.field_path} ${field.order}"] == ["customer ASCENDING", "placed DESCENDING"]
    error_message = "The index has other fields."
  }

  assert {
    condition     = google_firestore_index.this["by time"].api_scope == "DATASTORE_MODE_API"
    error_message = "The index is not for Datastore mode."
  }

  assert {
    condition     = alltrue([for field in google_firestore_field.expires : field.field == "expires" && length(field.ttl_config) == 1 && length(field.index_config) == 0])
    error_message = "A TTL policy is on the property expires, and says nothing of indexes."
  }

  assert {
    condition     = toset([for field in google_firestore_field.expires : field.collection]) == var.ttl_kinds
    error_message = "The TTL policies are of other kinds."
  }
}
