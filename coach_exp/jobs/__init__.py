"""What the command line can be asked to do, one file a kind of job.

`run` plans, simulates and reports; `plan` plans and explains; `precision` searches bit-widths;
`profile` times a device; `train` fits the classifier; `serve` is the cloud; `table` fills a table
of the paper cell by cell; `dynamic` changes the link under the methods; `orderings` runs them at
many settings and judges what must hold between them; `study` looks at the framework itself. All but
`serve` write what they find into the job's directory and keep it as a run in MLflow.
"""
