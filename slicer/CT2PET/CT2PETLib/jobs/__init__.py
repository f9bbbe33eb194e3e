"""Background jobs that report to the window through queues."""
