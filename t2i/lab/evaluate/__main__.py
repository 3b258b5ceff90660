from t2i.lab.evaluate.program import main

raise SystemExit(main())
