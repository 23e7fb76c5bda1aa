variable "project" {
  description = "Id of the project."
  type        = string
}

variable "location" {
  description = "Where the database is, such as nam5. It can never move."
  type        = string
}

variable "point_in_time_recovery" {
  description = "Whether the last 7 days can be read, instead of the last hour."
  type        = bool
}

variable "delete_protection" {
  description = "Whether the database cannot be deleted, and a destroy leaves it."
  type        = bool
}

variable "indexes" {
  description = "Composite indexes, by any name."
  type = map(object({
    kind        = string
    query_scope = string
    properties  = list(object({ name = string, order = string }))
  }))
}

variable "ttl_kinds" {
  description = "Kinds of which Datastore deletes entities some time after what their property `expires` says."
  type        = set(string)
}
