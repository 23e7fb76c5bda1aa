# Reads index.yaml as gcloud does when it deploys one. No provider is needed, so that it can be evaluated anywhere.

locals {
  declared = flatten([for path in var.files : try(coalescelist(yamldecode(file(path)).indexes, []), [])])

  indexes = [
    for index in local.declared : {
      kind = index.kind
      # An ancestor index is what Firestore calls recursive: gcloud translates it in this way.
      query_scope = try(index.ancestor, false) ? "COLLECTION_RECURSIVE" : "COLLECTION_GROUP"
      properties = [
        for property in index.properties : {
          name  = property.name == "__key__" ? "__name__" : property.name
          order = startswith(lower(try(property.direction, "asc")), "desc") ? "DESCENDING" : "ASCENDING"
        }
      ]
    }
  ]

  by_name = {
    for index in local.indexes :
    join(" ", concat(
      [index.kind, index.query_scope],
      [for property in index.properties : "${property.name} ${property.order}"],
    )) => index...
  }
}
