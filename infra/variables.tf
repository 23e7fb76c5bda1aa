variable "project" {
  description = "Id of the Google Cloud project, which exists and has billing."
  type        = string

  validation {
    condition     = can(regex("^[a-z][a-z0-9-]{4,28}[a-z0-9]$", var.project))
    error_message = "The project is ${jsonencode(var.project)}, which is not a project id: 6 to 30 lower-case letters, digits and hyphens, a letter first. Its number or display name will not do; `gcloud projects list` shows the ids."
  }

  validation {
    condition     = contains(["default", var.project], terraform.workspace)
    error_message = "The workspace ${jsonencode(terraform.workspace)} holds the state of another project than ${jsonencode(var.project)}. Select the project's own: terraform workspace select -or-create ${var.project}"
  }
}

variable "region" {
  description = "Where everything is: the location of the queues, the app and the data. An App Engine app can never move."
  type        = string
  default     = "us-central1"

  validation {
    condition     = can(regex("^[a-z]+-[a-z]+[0-9]+$", var.region))
    error_message = "The region is ${jsonencode(var.region)}, which is not the name of a region such as us-central1 or europe-west1. What App Engine calls us-central and europe-west are us-central1 and europe-west1."
  }
}

variable "services" {
  description = "App Engine services, each of which gets an account of its own to run as."
  type        = set(string)
  default     = ["default"]
  nullable    = false

  validation {
    condition     = length(var.services) > 0
    error_message = "There is no service. App Engine wants one named default: services = [\"default\"]"
  }

  validation {
    condition     = alltrue([for name in var.services : can(regex("^[a-z0-9]([a-z0-9-]{0,19}[a-z0-9])?$", name))])
    error_message = "The services are ${jsonencode(var.services)}. A name has 1 to 21 lower-case letters, digits and hyphens (with deferred- before it, it has to fit into the 30 characters of an account's id)."
  }
}

variable "oidc_services" {
  description = "Those of the services whose tasks go to a URL of yours with an OIDC token (DEFERRED_TARGET_URL): their accounts may act as themselves."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = length(setsubtract(var.oidc_services, var.services)) == 0
    error_message = "oidc_services has ${jsonencode(setsubtract(var.oidc_services, var.services))}, which services has not."
  }
}

variable "deployers" {
  description = "Who may deploy versions that run as these accounts, such as user:me@example.com. They need more roles, which the README lists."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for member in var.deployers : can(regex("^(user|group|serviceAccount|principal|principalSet):.+$", member))])
    error_message = "The deployers are ${jsonencode(var.deployers)}. Each is user:EMAIL, group:EMAIL, serviceAccount:EMAIL, principal:... or principalSet:..."
  }
}

variable "queues" {
  description = "Cloud Tasks queues by name, with what differs from Cloud Tasks' own settings. Durations are in seconds; max_attempts -1 is for ever; log_sampling_ratio is the part of operations that are logged."
  type = map(object({
    max_dispatches_per_second  = optional(number, 500)
    max_concurrent_dispatches  = optional(number, 1000)
    max_attempts               = optional(number, 100)
    max_retry_duration_seconds = optional(number, 0)
    min_backoff_seconds        = optional(number, 0.1)
    max_backoff_seconds        = optional(number, 3600)
    max_doublings              = optional(number, 16)
    log_sampling_ratio         = optional(number, 0)
  }))
  default  = { default = {} }
  nullable = false

  validation {
    condition     = contains(keys(var.queues), "default")
    error_message = "The queues are ${jsonencode(keys(var.queues))}, without default, into which defer() puts tasks unless told otherwise. Add: default = {}"
  }

  validation {
    condition     = alltrue([for name in keys(var.queues) : can(regex("^[A-Za-z0-9-]{1,100}$", name))])
    error_message = "The queues are ${jsonencode(keys(var.queues))}. A name has 1 to 100 letters, digits and hyphens."
  }

  validation {
    condition = alltrue([
      for queue in values(var.queues) :
      queue.max_dispatches_per_second > 0 && queue.max_dispatches_per_second <= 500 &&
      queue.max_concurrent_dispatches >= 1 && queue.max_concurrent_dispatches <= 5000
    ])
    error_message = "A queue dispatches more than 0 and at most 500 tasks a second (max_dispatches_per_second), and 1 to 5000 at a time (max_concurrent_dispatches)."
  }

  validation {
    condition = alltrue([
      for queue in values(var.queues) :
      (queue.max_attempts == -1 || queue.max_attempts >= 1) && queue.max_retry_duration_seconds >= 0 &&
      queue.min_backoff_seconds >= 0 && queue.min_backoff_seconds <= queue.max_backoff_seconds && queue.max_doublings >= 0
    ])
    error_message = "A queue's max_attempts is -1 or at least 1, no duration is negative, min_backoff_seconds is at most max_backoff_seconds, and max_doublings is not negative."
  }

  validation {
    condition     = alltrue([for queue in values(var.queues) : queue.log_sampling_ratio >= 0 && queue.log_sampling_ratio <= 1])
    error_message = "A queue's log_sampling_ratio is from 0 (nothing is logged) to 1 (everything is)."
  }
}

variable "point_in_time_recovery" {
  description = "Whether the database can be read as it was at any minute of the last 7 days, instead of the last hour. It costs storage."
  type        = bool
  default     = true
  nullable    = false
}

variable "delete_protection" {
  description = "Whether the database survives: it cannot be deleted, and a destroy leaves it where it is."
  type        = bool
  default     = true
  nullable    = false
}

variable "ttl_policies" {
  description = "Whether Datastore deletes what the library leaves behind: payloads of tasks that never ran, and receipts of those that did."
  type        = bool
  default     = true
  nullable    = false
}

variable "index_yaml_files" {
  description = "The apps' index.yaml files, whose composite indexes are made. A path is as seen from the root module, or absolute."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for path in var.index_yaml_files : fileexists(path)])
    error_message = "There is no file ${jsonencode([for path in var.index_yaml_files : path if !fileexists(path)])}. The local cloud writes index.yaml when a query needs an index; an app whose queries need none has no such file."
  }
}

variable "signing_keys_generation" {
  description = "Raise it to throw all signing keys away and make new ones, as after a leak: tasks in flight are refused then. It is not for rotation, which the README explains."
  type        = number
  default     = 1
  nullable    = false

  validation {
    condition     = var.signing_keys_generation >= 1 && floor(var.signing_keys_generation) == var.signing_keys_generation
    error_message = "signing_keys_generation is ${var.signing_keys_generation}; it counts from 1."
  }
}

variable "sweep_scheduler" {
  description = "Who asks for a sweep of the outbox: cron.yaml, which is deployed with the app, or cloud-scheduler, a job that is made here. Never both."
  type        = string
  default     = "cron.yaml"
  nullable    = false

  validation {
    condition     = contains(["cron.yaml", "cloud-scheduler"], var.sweep_scheduler)
    error_message = "sweep_scheduler is ${jsonencode(var.sweep_scheduler)}, not cron.yaml or cloud-scheduler."
  }
}

variable "sweep_service" {
  description = "The one of the services that sweeps. It sends what any service left in the outbox."
  type        = string
  default     = "default"
  nullable    = false

  validation {
    condition     = contains(var.services, var.sweep_service)
    error_message = "sweep_service is ${jsonencode(var.sweep_service)}, which services has not: ${jsonencode(var.services)}."
  }
}

variable "sweep_schedule" {
  description = "When cloud-scheduler asks for a sweep, in the format of cron(5), in UTC."
  type        = string
  default     = "* * * * *"
  nullable    = false

  validation {
    condition     = length(regexall("\\S+", var.sweep_schedule)) == 5
    error_message = "sweep_schedule is ${jsonencode(var.sweep_schedule)}, which has not the five fields of cron(5), such as \"*/5 * * * *\"."
  }
}

variable "alert_emails" {
  description = "Who is told by e-mail of dead letters. Without any, incidents are only in Cloud Monitoring."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for address in var.alert_emails : can(regex("^[^@\\s]+@[^@\\s]+$", address))])
    error_message = "alert_emails has ${jsonencode([for address in var.alert_emails : address if !can(regex("^[^@\\s]+@[^@\\s]+$", address))])}, which are not e-mail addresses."
  }
}

variable "budget" {
  description = "A monthly budget in whole units of the billing account's currency, with the parts of it at which mails go out. Null for none."
  type = object({
    billing_account = string
    amount          = number
    currency        = optional(string)
    thresholds      = optional(set(number), [0.5, 0.9, 1])
  })
  default = null

  validation {
    condition     = var.budget == null || can(regex("^[0-9A-F]{6}-[0-9A-F]{6}-[0-9A-F]{6}$", var.budget.billing_account))
    error_message = "The billing account of a budget is an id such as 012345-6789AB-CDEF01; `gcloud billing accounts list` shows them."
  }

  validation {
    condition     = var.budget == null || try(var.budget.amount >= 1 && floor(var.budget.amount) == var.budget.amount, false)
    error_message = "The amount of a budget is a whole number, at least 1."
  }

  validation {
    condition     = var.budget == null || try(alltrue([for part in var.budget.thresholds : part > 0]), false)
    error_message = "The thresholds of a budget are parts of its amount, such as 0.5 for half."
  }
}

variable "adopt_existing" {
  description = "What the project has already and is to be taken over instead of made: app_engine, database, queues."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = length(setsubtract(var.adopt_existing, ["app_engine", "database", "queues"])) == 0
    error_message = "adopt_existing has ${jsonencode(setsubtract(var.adopt_existing, ["app_engine", "database", "queues"]))}, which are not app_engine, database or queues."
  }
}
