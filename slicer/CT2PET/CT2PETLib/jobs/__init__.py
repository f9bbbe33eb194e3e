"""Work in threads that reports to the window through queues."""
