-- Who proposed, and of what state; those from before do not say, and end.
DELETE FROM approval;
ALTER TABLE approval ADD COLUMN proposed_by TEXT NOT NULL DEFAULT '';
ALTER TABLE approval ADD COLUMN facts BLOB NOT NULL DEFAULT '';

-- The rules of approvals.json that hold, and weaker ones that were refused last: one row.
CREATE TABLE approval_rules (
    id INTEGER PRIMARY KEY CHECK (id = 1),
    rules BLOB NOT NULL,
    refused BLOB
);
