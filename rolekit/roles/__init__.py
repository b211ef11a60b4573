"""Roles: what users subclass, how it is read, and the app they make together.

`declare` marks methods; `inspect` reads the marks and annotations of a role into plans when
`App(...)` is made; `model.graph` joins the plans of all roles and says what does not fit;
`settings` fills a role's attributes. A role knows messages only: processes and restarts are
the supervisor's, and neither imports the other.
"""
