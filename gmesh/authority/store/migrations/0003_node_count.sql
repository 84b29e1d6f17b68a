-- How many members there are, so that a join need not count them.
INSERT INTO meta (name, value) SELECT 'nodes', count(*) FROM node;
