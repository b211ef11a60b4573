"""mailflow: a small mail system on rolekit, one file per role.

    front | smtp -> Compose -> splitter -> Copy -> spamcheck -> Screened -> inspector
        (-> Attachment -> Verdict ->) -> Deliver -> deliverer -> Delivered | Bounced
        -> reporter -> Progress, Report -> whoever follows

`app.py` puts the roles together; `messages.py` says what travels between them.
"""
