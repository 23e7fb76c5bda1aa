# Reads the apps' index.yaml files with the same rules as `gcloud datastore indexes create`.

locals {
  declared_indexes = flatten([
    for path in var.index_yaml_files : try(coalescelist(yamldecode(file(path)).indexes, []), [])
  ])

  # Firestore calls an ancestor index recursive, and __key__ is __name__ there.
  translated_indexes = [
    for index in local.declared_indexes : {
      kind        = index.kind
      query_scope = try(index.ancestor, false) ? "COLLECTION_RECURSIVE" : "COLLECTION_GROUP"
      properties = [
        for property in index.properties : {
          name  = property.name == "__key__" ? "__name__" : property.name
          order = startswith(lower(try(property.direction, "asc")), "desc") ? "DESCENDING" : "ASCENDING"
        }
      ]
    }
  ]

  # The key of an index holds its whole definition. An index that two apps declare is made once.
  indexes = {
    for index in local.translated_indexes :
    join(" ", concat(
      [index.kind, index.query_scope],
      [for property in index.properties : "${property.name} ${property.order}"],
    )) => index...
  }
}

resource "google_firestore_index" "this" {
  for_each = { for key, equal in local.indexes : key => equal[0] }

  project     = var.project
  database    = google_firestore_database.this.name
  collection  = each.value.kind
  query_scope = each.value.query_scope
  api_scope   = "DATASTORE_MODE_API"

  dynamic "fields" {
    for_each = each.value.properties
    content {
      field_path = fields.value.name
      order      = fields.value.order
    }
  }
}
